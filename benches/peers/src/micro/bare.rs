//! Coroutines without a scheduler: corosensei, on which greenling stands, and `generator`, on which may does.

use std::hint::black_box;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};
use generator::{Generator, Gn, done};

use super::{MANY, Op, Timed, each, timed};

pub(super) fn of_corosensei(op: Op) -> Option<Timed> {
    Some(match op {
        // There and back between two is two pairs of resume and suspend.
        Op::Switch => {
            let mut all = endless(2);
            each(move || resume_all(&mut all))
        }
        Op::Next => {
            let mut one = endless(1);
            each(move || resume_all(&mut one))
        }
        Op::Yield => in_turn(2),
        Op::Yield1000 => in_turn(MANY),
        Op::Chain => chain(),
        Op::Spawn => {
            let mut stack = Some(DefaultStack::default());
            each(move || {
                let own = stack.take().expect("the last one gave it back");
                let mut coroutine =
                    Coroutine::<(), (), u64, _>::with_stack(own, |_, ()| black_box(1));
                let result = coroutine.resume(()).as_return();
                stack = Some(coroutine.into_stack());
                result
            })
        }
        _ => return None,
    })
}

type Endless = Coroutine<bool, u64, ()>;

fn endless(count: u64) -> Vec<Endless> {
    let one = |_| {
        let stack = DefaultStack::new(64 * 1024).expect("there is address space");
        Coroutine::with_stack(stack, |yielder, mut go_on: bool| {
            let mut n = 0;
            while go_on {
                n += 1;
                go_on = yielder.suspend(n);
            }
        })
    };
    (0..count).map(one).collect()
}

fn resume_all(coroutines: &mut [Endless]) {
    for coroutine in coroutines {
        let CoroutineResult::Yield(n) = coroutine.resume(true) else { unreachable!("endless") };
        black_box(n);
    }
}

fn in_turn(among: u64) -> Timed {
    let mut all = endless(among);
    Box::new(move |count| timed(|| (0..count.div_ceil(among)).for_each(|_| resume_all(&mut all))))
}

fn chain() -> Timed {
    let mut stacks = Vec::new();
    each_chain(move || {
        let mut links: Vec<_> = (0..MANY)
            .map(|_| {
                let stack = stacks
                    .pop()
                    .unwrap_or_else(|| DefaultStack::new(64 * 1024).expect("there is space"));
                let mut link = Coroutine::with_stack(stack, |yielder, _: u64| {
                    let n = yielder.suspend(0);
                    yielder.suspend(n + 1);
                });
                link.resume(0);
                link
            })
            .collect();
        let mut sum = 0;
        for link in &mut links {
            let CoroutineResult::Yield(n) = link.resume(sum) else { unreachable!("it suspends") };
            sum = n;
        }
        for mut link in links {
            link.force_unwind();
            stacks.push(link.into_stack());
        }
        sum
    })
}

/// A call is a chain, and an operation a link.
pub(super) fn each_chain(mut once: impl FnMut() -> u64 + 'static) -> Timed {
    Box::new(move |count| {
        timed(|| (0..count / MANY).for_each(|_| assert_eq!(black_box(once()), MANY)))
    })
}

pub(super) fn of_generator(op: Op) -> Option<Timed> {
    Some(match op {
        Op::Next => {
            let mut numbers: Generator<'static, (), u64> = Gn::new_scoped(|mut scope| {
                let mut n = 0;
                loop {
                    n += 1;
                    scope.yield_(n);
                }
                #[allow(unreachable_code)]
                {
                    done!()
                }
            });
            each(move || numbers.resume())
        }
        Op::Chain => each_chain(|| {
            let mut links: Vec<_> = (0..MANY)
                .map(|_| {
                    let mut link: Generator<'static, u64, u64> = Gn::new_scoped(|mut scope| {
                        let n = scope.yield_(0).unwrap_or(0);
                        n + 1
                    });
                    link.raw_send(None);
                    link
                })
                .collect();
            links.iter_mut().fold(0, |sum, link| link.raw_send(Some(sum)).unwrap_or(0))
        }),
        _ => return None,
    })
}
