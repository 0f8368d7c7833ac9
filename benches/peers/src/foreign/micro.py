# Small operations by gevent and by greenlet alone: for each line with a count, the nanoseconds of processor
# time that so many took.
import sys
from time import process_time_ns

MANY, SPAWNED, WAITS, LONG, LIVE, SLEEPERS = 1000, 10000, 16, 3600, 1000000, 100000


def timed(function):
    def operation(count):
        begin = process_time_ns()
        # Some know better how long it was, without what comes before and after.
        return function(count) or process_time_ns() - begin

    return operation


def of_greenlet():
    from greenlet import getcurrent, greenlet

    def between_two(count):
        first = getcurrent()

        def echo():
            while True:
                first.switch()

        second = greenlet(echo)
        for _ in range(count):
            second.switch()

    def values(count):
        parent = getcurrent()

        def endless():
            n = 0
            while True:
                n += 1
                parent.switch(n)

        numbers = greenlet(endless)
        for _ in range(count):
            numbers.switch()

    def chain(count):
        base = getcurrent()

        def link(following):
            number = base.switch()
            following.switch(number + 1)

        for _ in range(count // MANY):
            head = base
            for _ in range(MANY):
                before = greenlet(link)
                before.switch(head)
                head = before
            assert head.switch(0) == MANY

    return {"switch": between_two, "next": values, "chain": chain}


def of_gevent():
    import gevent
    from gevent.event import Event
    from gevent.lock import BoundedSemaphore
    from gevent.queue import SimpleQueue

    def in_turn(among):
        def run(count):
            def one():
                for _ in range(count // among or 1):
                    gevent.sleep(0)

            gevent.joinall([gevent.spawn(one) for _ in range(among)])

        return run

    def spawn(count):
        for _ in range(count):
            gevent.spawn(int).join()

    def spawn_many(count):
        for _ in range(count // SPAWNED):
            gevent.joinall([gevent.spawn(int) for _ in range(SPAWNED)])

    def channel(count):
        there, back = SimpleQueue(), SimpleQueue()

        def answer():
            for _ in range(count):
                back.put(there.get())

        other = gevent.spawn(answer)
        for n in range(count):
            there.put(n)
            assert back.get() == n
        other.join()

    def mutex(count):
        lock = BoundedSemaphore()
        for _ in range(count):
            with lock:
                pass

    def contend(count):
        lock = BoundedSemaphore()

        def one():
            for n in range(count // MANY):
                with lock:
                    if n % WAITS == 0:
                        gevent.sleep(0)

        gevent.joinall([gevent.spawn(one) for _ in range(MANY)])

    def timer(count):
        for _ in range(count):
            gevent.Timeout.start_new(LONG).close()

    def sleep(count):
        begun, ended = [], []

        def one():
            begun.append(process_time_ns() if len(begun) + 1 == SLEEPERS else 0)
            while len(begun) < SLEEPERS:
                gevent.sleep(0.01)
            for _ in range(count // SLEEPERS):
                gevent.sleep(0.01)
            ended.append(process_time_ns() if len(ended) + 1 == SLEEPERS else 0)

        gevent.joinall([gevent.spawn(one) for _ in range(SLEEPERS)])
        return ended[-1] - begun[-1]

    kept = []

    def among_live(count):
        while len(kept) < LIVE:
            kept.append(gevent.Timeout.start_new(LONG + len(kept) / 1000))
        timer(count)

    def idle(count):
        wait = Event().wait
        kept.extend(gevent.spawn(wait) for _ in range(count))
        gevent.sleep(0)

    return {
        "yield": in_turn(2),
        "yield1000": in_turn(MANY),
        "spawn": spawn,
        "spawn10000": spawn_many,
        "channel": channel,
        "mutex": mutex,
        "mutex1000": contend,
        "timer": timer,
        "timer1m": among_live,
        "sleep": sleep,
        "idle": idle,
    }


operation = timed({"greenlet": of_greenlet, "gevent": of_gevent}[sys.argv[1]]()[sys.argv[2]])
for line in sys.stdin:
    print(operation(int(line)), flush=True)
