// Echo, HTTP and small operations by Java's virtual threads. They are reached by reflection, so that the compiler
// may be an older one than the machine.

import com.sun.net.httpserver.HttpServer;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.FutureTask;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongConsumer;

public class Peer {
    static final int MANY = 1000, SPAWNED = 10_000, WAITS = 16, LIVE = 1_000_000, SLEEPERS = 100_000;
    static long counter;
    /** How long the operation took, if it knows better than whoever called it. */
    static volatile long known;

    public static void main(String[] arguments) throws Exception {
        switch (arguments[0]) {
            case "echo" -> echo();
            case "http" -> http();
            default -> obey(arguments[0]);
        }
    }

    static Thread spawn(Runnable body) {
        try {
            return (Thread) Thread.class.getMethod("startVirtualThread", Runnable.class).invoke(null, body);
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException(error);
        }
    }

    static void echo() throws IOException {
        var listener = new ServerSocket(0, 4096, InetAddress.getLoopbackAddress());
        System.out.println("listening on 127.0.0.1:" + listener.getLocalPort());
        while (true) {
            Socket connection = listener.accept();
            spawn(() -> {
                try (connection) {
                    connection.setTcpNoDelay(true);
                    var buffer = new byte[4096];
                    var input = connection.getInputStream();
                    var output = connection.getOutputStream();
                    for (int length; (length = input.read(buffer)) > 0; ) {
                        output.write(buffer, 0, length);
                    }
                } catch (IOException error) {
                    // The other side will have noticed.
                }
            });
        }
    }

    static void http() throws Exception {
        var server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 4096);
        byte[] body = "Hello, World!".getBytes(StandardCharsets.US_ASCII);
        server.createContext("/", exchange -> {
            exchange.getResponseHeaders().set("Content-Type", "text/plain");
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.setExecutor(
            (ExecutorService) Executors.class.getMethod("newVirtualThreadPerTaskExecutor").invoke(null));
        server.start();
        System.out.println("listening on 127.0.0.1:" + server.getAddress().getPort());
    }

    /**
     * For each line with a count, prints the nanoseconds that so many took by the clock on the wall; or a dash, for
     * its own processor time is told to it by the hundredth of a second only, and who asked knows better.
     */
    static void obey(String name) throws Exception {
        LongConsumer operation = operation(name);
        // Until the compiler has seen enough of it; what stays is not made in advance.
        if (!name.equals("idle")) {
            long until = System.nanoTime() + 2_000_000_000L;
            int unit = switch (name) {
                case "spawn10000" -> SPAWNED;
                case "sleep" -> SLEEPERS;
                default -> MANY * WAITS;
            };
            while (System.nanoTime() < until) {
                operation.accept(unit);
            }
        }
        boolean wall = name.equals("mutex4x250");
        var input = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = input.readLine()) != null; ) {
            long count = Long.parseLong(line);
            long begin = System.nanoTime();
            known = 0;
            operation.accept(count);
            if (wall) {
                known = System.nanoTime() - begin;
            }
            System.out.println(known > 0 ? Long.toString(known) : "-");
        }
    }

    static LongConsumer operation(String name) {
        return switch (name) {
            case "yield" -> count -> all(2, () -> {
                for (long n = 0; n < count / 2 || n == 0; n++) {
                    Thread.yield();
                }
            });
            case "yield1000" -> count -> all(MANY, () -> {
                for (long n = 0; n < count / MANY; n++) {
                    Thread.yield();
                }
            });
            case "spawn" -> count -> virtual(() -> {
                for (long n = 0; n < count; n++) {
                    var one = new FutureTask<>(() -> 1);
                    spawn(one);
                    one.get();
                }
                return 0;
            });
            case "spawn10000" -> count -> {
                for (long n = 0; n < count / SPAWNED; n++) {
                    all(SPAWNED, () -> {});
                }
            };
            case "channel" -> count -> virtual(() -> channel(count));
            case "mutex" -> count -> virtual(() -> {
                var lock = new ReentrantLock();
                for (long n = 0; n < count; n++) {
                    lock.lock();
                    counter++;
                    lock.unlock();
                }
                return 0;
            });
            case "mutex1000", "mutex4x250" -> Peer::contend;
            case "timer" -> timer(0);
            case "timer1m" -> timer(LIVE);
            case "sleep" -> Peer::sleep;
            case "idle" -> Peer::idle;
            default -> throw new IllegalArgumentException(name);
        };
    }

    /** All begin, and all end. */
    static void all(int number, Runnable body) {
        var ended = new CountDownLatch(number);
        for (int n = 0; n < number; n++) {
            spawn(() -> {
                body.run();
                ended.countDown();
            });
        }
        await(ended);
    }

    static void await(CountDownLatch latch) {
        try {
            latch.await();
        } catch (InterruptedException error) {
            throw new IllegalStateException(error);
        }
    }

    /** In a virtual thread, whose exceptions are not lost. */
    static void virtual(Callable<Integer> body) {
        var task = new FutureTask<>(body);
        spawn(task);
        try {
            task.get();
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    static int channel(long count) throws InterruptedException {
        var there = new LinkedBlockingQueue<Long>();
        var back = new LinkedBlockingQueue<Long>();
        spawn(() -> {
            try {
                for (long n; (n = there.take()) >= 0; ) {
                    back.put(n);
                }
            } catch (InterruptedException error) {
                throw new IllegalStateException(error);
            }
        });
        for (long n = 0; n < count; n++) {
            there.put(n);
            if (back.take() != n) {
                throw new IllegalStateException("not what was sent");
            }
        }
        there.put(-1L);
        return 0;
    }

    static void contend(long count) {
        var lock = new ReentrantLock();
        all(MANY, () -> {
            for (long n = 0; n < count / MANY; n++) {
                lock.lock();
                counter++;
                if (n % WAITS == 0) {
                    Thread.yield();
                }
                lock.unlock();
            }
        });
    }

    static LongConsumer timer(int live) {
        var timers = new ScheduledThreadPoolExecutor(1);
        timers.setRemoveOnCancelPolicy(true);
        for (int n = 0; n < live; n++) {
            timers.schedule(() -> {}, 3_600_000L + n, TimeUnit.MILLISECONDS);
        }
        return count -> {
            for (long n = 0; n < count; n++) {
                timers.schedule(() -> {}, 1, TimeUnit.HOURS).cancel(false);
            }
        };
    }

    /** Without the time to make them. It takes long enough for a clock of hundredths. */
    static void sleep(long count) {
        var begun = new AtomicInteger();
        var ended = new AtomicInteger();
        var begin = new AtomicLong();
        all(SLEEPERS, () -> {
            long nanos = Duration.ofMillis(10).toNanos();
            if (begun.incrementAndGet() == SLEEPERS) {
                begin.set(processorTime());
            }
            while (begun.get() < SLEEPERS) {
                LockSupport.parkNanos(nanos);
            }
            for (long n = 0; n < count / SLEEPERS; n++) {
                LockSupport.parkNanos(nanos);
            }
            if (ended.incrementAndGet() == SLEEPERS) {
                known = processorTime() - begin.get();
            }
        });
    }

    static long processorTime() {
        var system = java.lang.management.ManagementFactory.getOperatingSystemMXBean();
        return ((com.sun.management.OperatingSystemMXBean) system).getProcessCpuTime();
    }

    static void idle(long count) {
        var begun = new CountDownLatch((int) count);
        for (long n = 0; n < count; n++) {
            spawn(() -> {
                begun.countDown();
                while (true) {
                    LockSupport.park();
                }
            });
        }
        await(begun);
    }
}
