//! What the benches share: an operation measured beside its reference.
//!
//! Absolute figures move with whatever else the machine does. A ratio does so much less, if both sides take
//! turns: see [`Comparison`].

pub mod system;

use std::time::Duration;

use criterion::Criterion;

/// How often the two sides take turns.
const ROUNDS: usize = 31;
/// How long a turn lasts at least.
const TURN: Duration = Duration::from_millis(10);

/// Runs an operation so many times and says how long that took, without what had to be prepared.
pub type Timed = Box<dyn FnMut(u64) -> Duration>;

/// An operation and the reference that its cost is a multiple of.
pub struct Comparison {
    name: &'static str,
    /// How many operations one iteration is.
    operations: u64,
    subject: (&'static str, Timed),
    reference: (&'static str, Timed),
    targets: String,
}

impl Comparison {
    /// Compares `subject` with `reference`, each with its name.
    pub fn new(
        name: &'static str,
        subject: (&'static str, Timed),
        reference: (&'static str, Timed),
    ) -> Comparison {
        Comparison { name, operations: 1, subject, reference, targets: String::new() }
    }

    /// One iteration is so many operations; figures are for one.
    pub fn operations(mut self, operations: u64) -> Comparison {
        self.operations = operations;
        self
    }

    /// The ratio that is to be reached.
    pub fn ratio_at_most(mut self, ratio: f64) -> Comparison {
        self.targets += &format!(", to reach: ratio {ratio}");
        self
    }

    /// The time that is to be reached.
    pub fn at_most(mut self, time: Duration) -> Comparison {
        self.targets += &format!(", to reach: {} ns", time.as_nanos());
        self
    }

    /// Has criterion measure both, one after the other, and then compares them in turns.
    pub fn run(mut self, criterion: &mut Criterion) {
        let mut group = criterion.benchmark_group(self.name);
        group.throughput(criterion::Throughput::Elements(self.operations));
        for (name, timed) in [&mut self.subject, &mut self.reference] {
            group.bench_function(*name, |bencher| bencher.iter_custom(&mut *timed));
        }
        group.finish();
        self.compare();
    }

    /// Compares in turns and prints the ratio. Does nothing under `cargo test`, or if the command
    /// line asks for something else.
    pub fn compare(mut self) {
        if !is_bench_run(self.name) {
            return;
        }
        let [iterations, reference_iterations] =
            [&mut self.subject, &mut self.reference].map(|(_, timed)| enough(timed));
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let subject = per_one(&mut self.subject.1, iterations) / self.operations as f64;
            let reference =
                per_one(&mut self.reference.1, reference_iterations) / self.operations as f64;
            rounds.push((subject, reference, subject / reference));
        }
        let quantile = |part, of: fn(&(f64, f64, f64)) -> f64| {
            let mut values: Vec<_> = rounds.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[((ROUNDS - 1) as f64 * part) as usize]
        };
        println!(
            "{}: {} {:.2} ns, {} {:.2} ns, ratio {:.3} ({:.3}-{:.3}){}\n",
            self.name,
            self.subject.0,
            quantile(0.5, |round| round.0),
            self.reference.0,
            quantile(0.5, |round| round.1),
            quantile(0.5, |round| round.2),
            quantile(0.25, |round| round.2),
            quantile(0.75, |round| round.2),
            self.targets,
        );
    }
}

/// Whether `cargo bench` asked for this one: with no names given, or with a part of this name.
pub fn is_bench_run(name: &str) -> bool {
    let (flags, names): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
    flags.iter().any(|flag| flag == "--bench")
        && (names.is_empty() || names.iter().any(|part| name.contains(part.as_str())))
}

/// Criterion with times that suit operations of nanoseconds.
pub fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args()
}

/// So many iterations last for a turn.
fn enough(timed: &mut Timed) -> u64 {
    let mut iterations = 1;
    while timed(iterations) < TURN {
        iterations *= 2;
    }
    iterations
}

/// Nanoseconds for one iteration.
fn per_one(timed: &mut Timed, iterations: u64) -> f64 {
    timed(iterations).as_nanos() as f64 / iterations as f64
}
