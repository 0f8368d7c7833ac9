//! The frontier of several crawlers, on one machine or many: in Redis, by its unmodified blocking client.
//!
//! A page that is handed out is *leased*. A crawler that ends without a word loses its leases after a while, and
//! others get its pages. Everything that has to happen at once is a script on the server.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Client, Connection, RedisError, RedisResult, Script};

use super::{Counts, Frontier, Limits};
use crate::page::Job;

/// For how long the server may be away.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a single command may take.
const COMMAND: Duration = Duration::from_secs(10);
/// How often to ask whether there is something to do.
const PAUSE: Duration = Duration::from_millis(50);

/// What all scripts have in common. KEYS[1] is the prefix of all keys.
const COMMON: &str = r"
local p = KEYS[1]
local function key(name) return p .. ':' .. name end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function enqueue(host, job, side)
  redis.call(side or 'RPUSH', key('q:' .. host), job)
  redis.call('INCR', key('queued'))
  if redis.call('SADD', key('ringed'), host) == 1 then redis.call('RPUSH', key('ring'), host) end
end
local function add(first, max_queries)
  for i = first, #ARGV, 4 do
    local url, path, host, job = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    if redis.call('SISMEMBER', key('seen'), url) == 0 then
      local taken = path == '' or redis.call('HINCRBY', key('queries'), path, 1) <= max_queries
      if taken then
        redis.call('SADD', key('seen'), url)
        enqueue(host, job)
      end
    end
  end
end
";

/// ARGV: the most queries of a path; then url, path, host, job of each.
const ADD: &str = r"
add(2, tonumber(ARGV[1]))
return 0
";

/// ARGV: lease in ms, most pages of a host at a time, delay in ms, most pages or -1, the crawler, the number of its
/// request. Returns {job} or {'', what}. A request whose answer was lost may be sent again: it gets the same page.
const NEXT: &str = r"
local lease, per_host, delay, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local given = redis.call('HGET', key('given'), ARGV[5])
if given then
  local number, url = string.match(given, '^(%d+) (.*)$')
  local job = number == ARGV[6] and redis.call('HGET', key('leased'), url)
  if job then return {job} end
end
for _, url in ipairs(redis.call('ZRANGEBYSCORE', key('leases'), '-inf', now, 'LIMIT', 0, 100)) do
  local job = redis.call('HGET', key('leased'), url)
  local host = redis.call('HGET', key('hosts'), url)
  redis.call('ZREM', key('leases'), url)
  redis.call('HDEL', key('leased'), url)
  redis.call('HDEL', key('hosts'), url)
  redis.call('HINCRBY', key('busy'), host, -1)
  redis.call('DECR', key('handed'))
  enqueue(host, job, 'LPUSH')
end
local leased = redis.call('ZCARD', key('leases'))
local handed = tonumber(redis.call('GET', key('handed')) or '0')
if most >= 0 and handed >= most then
  if leased == 0 then return {'', 'finished'} end
  return {'', 'wait'}
end
for _ = 1, redis.call('LLEN', key('ring')) do
  local host = redis.call('LPOP', key('ring'))
  local busy = tonumber(redis.call('HGET', key('busy'), host) or '0')
  local ready = tonumber(redis.call('HGET', key('ready'), host) or '0')
  if busy >= per_host or ready > now then
    redis.call('RPUSH', key('ring'), host)
  else
    local job = redis.call('LPOP', key('q:' .. host))
    if job and redis.call('LLEN', key('q:' .. host)) > 0 then
      redis.call('RPUSH', key('ring'), host)
    else
      redis.call('SREM', key('ringed'), host)
    end
    if job then
      local url = cjson.decode(job).url
      local own = tonumber(redis.call('HGET', key('delay'), host) or '0')
      redis.call('HSET', key('ready'), host, now + math.max(own, delay))
      redis.call('HINCRBY', key('busy'), host, 1)
      redis.call('ZADD', key('leases'), now + lease, url)
      redis.call('HSET', key('leased'), url, job)
      redis.call('HSET', key('hosts'), url, host)
      redis.call('HSET', key('given'), ARGV[5], ARGV[6] .. ' ' .. url)
      redis.call('DECR', key('queued'))
      redis.call('INCR', key('handed'))
      return {job}
    end
  end
end
if leased == 0 and tonumber(redis.call('GET', key('queued')) or '0') == 0 then return {'', 'finished'} end
return {'', 'wait'}
";

/// ARGV: url, 1 if it was fetched, the most queries of a path; then as ADD. Returns whether the lease was ours.
const DONE: &str = r"
local url = ARGV[1]
if redis.call('ZREM', key('leases'), url) == 0 then return 0 end
local host = redis.call('HGET', key('hosts'), url)
redis.call('HDEL', key('leased'), url)
redis.call('HDEL', key('hosts'), url)
redis.call('HINCRBY', key('busy'), host, -1)
if ARGV[2] == '0' then redis.call('DECR', key('handed')) end
add(4, tonumber(ARGV[3]))
return 1
";

/// ARGV: host, delay in ms.
const SLOW_DOWN: &str = r"
local old = tonumber(redis.call('HGET', key('delay'), ARGV[1]) or '0')
redis.call('HSET', key('delay'), ARGV[1], math.max(old, tonumber(ARGV[2])))
redis.call('HSET', key('ready'), ARGV[1], now + tonumber(ARGV[2]))
return 0
";

/// ARGV: none. Returns queued, leased, seen.
const COUNTS: &str = r"
return {tonumber(redis.call('GET', key('queued')) or '0'), redis.call('ZCARD', key('leases')),
        redis.call('SCARD', key('seen'))}
";

pub(crate) struct Shared {
    client: Client,
    idle: Mutex<Vec<Connection>>,
    /// Whoever asks for the next page; the others wait their turn here, and not at the server. How many pages
    /// were asked for.
    turn: Mutex<u64>,
    /// Tells this crawler from all others.
    own_name: String,
    scripts: Scripts,
    prefix: String,
    limits: Limits,
    lease: Duration,
    stopped: AtomicBool,
}

struct Scripts {
    add: Script,
    next: Script,
    done: Script,
    slow_down: Script,
    counts: Script,
}

impl Shared {
    pub(crate) fn connect(
        url: &str,
        name: &str,
        limits: Limits,
        lease: Duration,
    ) -> io::Result<Shared> {
        let client = Client::open(url).map_err(|error| io::Error::other(error.to_string()))?;
        let script = |text: &str| Script::new(&format!("{COMMON}{text}"));
        let scripts = Scripts {
            add: script(ADD),
            next: script(NEXT),
            done: script(DONE),
            slow_down: script(SLOW_DOWN),
            counts: script(COUNTS),
        };
        let shared = Shared {
            client,
            idle: Mutex::default(),
            turn: Mutex::default(),
            own_name: own_name(),
            scripts,
            // The braces put all keys into one slot of a cluster.
            prefix: format!("{{crawler:{name}}}"),
            limits,
            lease,
            stopped: AtomicBool::new(false),
        };
        // A server that is not there at the beginning is a mistake, and not a mishap.
        let connection =
            shared.open().map_err(|error| io::Error::other(format!("{url}: {error}")))?;
        shared.give_back(connection);
        Ok(shared)
    }

    fn open(&self) -> RedisResult<Connection> {
        let connection = self.client.get_connection_with_timeout(COMMAND)?;
        connection.set_read_timeout(Some(COMMAND))?;
        connection.set_write_timeout(Some(COMMAND))?;
        Ok(connection)
    }

    fn give_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }

    /// Runs a script, and does not give up at once if the server is away. All of them may run twice.
    fn run<T: redis::FromRedisValue>(&self, script: &Script, args: &[String]) -> io::Result<T> {
        let until = Instant::now() + PATIENCE;
        let mut pause = PAUSE;
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let result = idle.map_or_else(|| self.open(), Ok).and_then(|mut connection| {
                let mut call = script.prepare_invoke();
                call.key(&self.prefix);
                for arg in args {
                    call.arg(arg);
                }
                let result = call.invoke(&mut connection)?;
                self.give_back(connection);
                Ok(result)
            });
            match result {
                Ok(result) => return Ok(result),
                Err(error) if is_passing(&error) && Instant::now() < until => {
                    // What is left of the idle ones is no better.
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    thread::sleep(pause);
                    pause = (2 * pause).min(Duration::from_secs(2));
                }
                Err(error) => return Err(io::Error::other(error.to_string())),
            }
        }
    }

    /// The arguments of `add`.
    fn args_of(found: Vec<Job>, args: &mut Vec<String>) -> io::Result<()> {
        for job in found {
            let url = job.url.to_string();
            let path = url.split_once('?').map_or(String::new(), |(path, _)| path.to_owned());
            let text = serde_json::to_string(&job)?;
            args.extend([url, path, job.host(), text]);
        }
        Ok(())
    }
}

/// The process, and a number that no other process has drawn.
fn own_name() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!(
        "{}-{:016x}",
        std::process::id(),
        RandomState::new().hash_one(std::time::SystemTime::now())
    )
}

/// Whether the server may be back soon.
fn is_passing(error: &RedisError) -> bool {
    let starting = error.code().is_some_and(|code| matches!(code, "LOADING" | "BUSY" | "TRYAGAIN"));
    starting || error.is_io_error() || error.is_timeout() || error.is_connection_dropped()
}

impl Frontier for Shared {
    fn add(&self, found: Vec<Job>) -> io::Result<()> {
        let mut args = vec![self.limits.max_queries.to_string()];
        Shared::args_of(found, &mut args)?;
        self.run(&self.scripts.add, &args)
    }

    fn next(&self) -> io::Result<Option<Job>> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        *turn += 1;
        let args = [
            self.lease.as_millis().to_string(),
            self.limits.per_host.to_string(),
            self.limits.delay.as_millis().to_string(),
            self.limits.max_pages.map_or("-1".to_owned(), |max| max.to_string()),
            self.own_name.clone(),
            turn.to_string(),
        ];
        while !self.stopped.load(Ordering::Relaxed) {
            let answer: Vec<String> = self.run(&self.scripts.next, &args)?;
            match answer.as_slice() {
                [job] => return Ok(Some(serde_json::from_str(job)?)),
                [_, what] if what == "finished" => self.stop(),
                _ => thread::sleep(PAUSE),
            }
        }
        Ok(None)
    }

    fn done(&self, job: &Job, fetched: bool, found: Vec<Job>) -> io::Result<()> {
        let mut args = vec![
            job.url.to_string(),
            u8::from(fetched).to_string(),
            self.limits.max_queries.to_string(),
        ];
        Shared::args_of(found, &mut args)?;
        // If the lease was lost, then somebody else does the page again, or this is the second try of a
        // command whose answer was lost. All is well in both cases.
        self.run::<i64>(&self.scripts.done, &args).map(drop)
    }

    fn slow_down(&self, host: &str, delay: Duration) {
        // Nothing is lost if it cannot be said: every crawler finds it out for itself.
        let _ = self
            .run::<i64>(&self.scripts.slow_down, &[host.to_owned(), delay.as_millis().to_string()]);
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn counts(&self) -> Counts {
        match self.run::<Vec<usize>>(&self.scripts.counts, &[]).as_deref() {
            Ok(&[queued, in_flight, seen]) => Counts { queued, in_flight, seen },
            _ => Counts::default(),
        }
    }
}
