//! Two tasks take turns and hand each other a name: eat and play.
//!
//! Run with: cargo run --example tour_eat_play

use std::cell::RefCell;
use std::rc::Rc;

use greenling::greenlet::Greenlet;

/// Where a task says what it does.
type Diary = Rc<RefCell<Vec<String>>>;

fn note(diary: &Diary, entry: String) {
    println!("{entry}");
    diary.borrow_mut().push(entry);
}

fn main() {
    let diary = Diary::default();

    // The first message is the argument of the function, each later one what `switch` returns.
    let eat = {
        let diary = diary.clone();
        Greenlet::new(move |name: &str| {
            note(&diary, format!("{name} eats breakfast"));
            let name = Greenlet::base().switch("the breakfast is eaten").expect("main waits");
            note(&diary, format!("{name} eats lunch"));
            "the lunch is eaten"
        })
    };
    let play = {
        let diary = diary.clone();
        Greenlet::new(move |name: &str| {
            note(&diary, format!("{name} plays chess"));
            let name = Greenlet::base().switch("the game is a draw").expect("main waits");
            note(&diary, format!("{name} plays the piano"));
            "the music has ended"
        })
    };

    for (task, name) in [(&eat, "Anna"), (&play, "Ben"), (&eat, "Clara"), (&play, "Dan")] {
        let answer = task.switch(name).expect("it has not ended");
        note(&diary, format!("  {answer}"));
    }

    assert!(eat.is_dead() && play.is_dead());
    assert_eq!(
        *diary.borrow(),
        [
            "Anna eats breakfast",
            "  the breakfast is eaten",
            "Ben plays chess",
            "  the game is a draw",
            "Clara eats lunch",
            "  the lunch is eaten",
            "Dan plays the piano",
            "  the music has ended",
        ]
    );
}
