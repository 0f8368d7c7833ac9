// Echo, HTTP and small operations by Go.
package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const many, spawned, waits, live, sleepers = 1000, 10000, 16, 1000000, 100000

func main() {
	switch os.Args[1] {
	case "echo":
		echo()
	case "http":
		hello()
	default:
		obey(operations()[os.Args[1]], os.Args[1] == "mutex4x250")
	}
}

func listen() net.Listener {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("listening on %s\n", listener.Addr())
	return listener
}

func echo() {
	listener := listen()
	for {
		connection, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			defer connection.Close()
			buffer := make([]byte, 4096)
			for {
				length, err := connection.Read(buffer)
				if err != nil {
					return
				}
				if _, err := connection.Write(buffer[:length]); err != nil {
					return
				}
			}
		}()
	}
}

func hello() {
	body := []byte("Hello, World!")
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Write(body)
	})
	panic(http.Serve(listen(), nil))
}

// Nanoseconds of processor time; where several processors work, of the clock on the wall.
func now(wall bool) int64 {
	if wall {
		return time.Now().UnixNano()
	}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

// For each line with a count, prints the nanoseconds that so many took.
func obey(operation func(int), wall bool) {
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		count, err := strconv.Atoi(input.Text())
		if err != nil {
			panic(err)
		}
		begun, ended = now(wall), 0
		operation(count)
		if ended == 0 {
			ended = now(wall)
		}
		fmt.Println(ended - begun)
	}
}

func inTurn(among, count int, once func(int)) {
	var all sync.WaitGroup
	all.Add(among)
	for i := 0; i < among; i++ {
		go func() {
			for n := 0; n < count/among || n == 0; n++ {
				once(n)
			}
			all.Done()
		}()
	}
	all.Wait()
}

func operations() map[string]func(int) {
	yield := func(int) { runtime.Gosched() }
	contend := func(count int) {
		var mutex sync.Mutex
		counter := 0
		inTurn(many, count, func(n int) {
			mutex.Lock()
			counter++
			if n%waits == 0 {
				runtime.Gosched()
			}
			mutex.Unlock()
		})
	}
	return map[string]func(int){
		"yield":      func(count int) { inTurn(2, count, yield) },
		"yield1000":  func(count int) { inTurn(many, count, yield) },
		"spawn":      spawn,
		"spawn10000": spawnMany,
		"channel":    channel,
		"mutex":      mutex,
		"mutex1000":  contend,
		"mutex4x250": func(count int) { runtime.GOMAXPROCS(4); contend(count) },
		"timer":      timers,
		"timer1m": func(count int) {
			for ; lived < live; lived++ {
				time.NewTimer(time.Hour + time.Duration(lived)*time.Millisecond)
			}
			timers(count)
		},
		"sleep": sleep,
		"idle": func(count int) {
			forever := make(chan int)
			var begun sync.WaitGroup
			begun.Add(count)
			for n := 0; n < count; n++ {
				go func() { begun.Done(); <-forever }()
			}
			begun.Wait()
		},
	}
}

// When the operation began and ended, if that is not when it was called and returned.
var begun, ended int64

// Without the time to make them.
func sleep(count int) {
	var first, last int32
	inTurn(sleepers, sleepers, func(int) {
		if atomic.AddInt32(&first, 1) == sleepers {
			begun = now(false)
		}
		for atomic.LoadInt32(&first) < sleepers {
			time.Sleep(10 * time.Millisecond)
		}
		for n := 0; n < count/sleepers; n++ {
			time.Sleep(10 * time.Millisecond)
		}
		if atomic.AddInt32(&last, 1) == sleepers {
			ended = now(false)
		}
	})
}

// So many timers are set, and stay.
var lived = 0

func timers(count int) {
	for n := 0; n < count; n++ {
		time.NewTimer(time.Hour).Stop()
	}
}

func spawn(count int) {
	for n := 0; n < count; n++ {
		done := make(chan int, 1)
		go func() { done <- 1 }()
		<-done
	}
}

func spawnMany(count int) {
	for n := 0; n < count/spawned; n++ {
		var all sync.WaitGroup
		all.Add(spawned)
		for n := 0; n < spawned; n++ {
			go all.Done()
		}
		all.Wait()
	}
}

// With room for one: without, Go hands over directly, which its unbounded peers cannot.
func channel(count int) {
	there, back := make(chan int, 1), make(chan int, 1)
	go func() {
		for n := range there {
			back <- n
		}
	}()
	for n := 0; n < count; n++ {
		there <- n
		if <-back != n {
			panic("not what was sent")
		}
	}
	close(there)
}

func mutex(count int) {
	var mutex sync.Mutex
	counter := 0
	for n := 0; n < count; n++ {
		mutex.Lock()
		counter++
		mutex.Unlock()
	}
}
