//! A glob import of a module of ours serves wherever one of std's did: the same code, with nothing but globs and no name spelled
//! out, is compiled against both, and runs with both.

#![allow(unused_imports, reason = "the traits that are used differ little between the two")]

mod common;

mod with_greenling {
    use greenling as root;

    include!("glob_imports/cases.rs");
}

mod with_std {
    use std as root;

    include!("glob_imports/cases.rs");
}

/// What is there in addition does not get in the way of std's names.
mod beside_std {
    use greenling::sync::*;
    use greenling::thread::*;
    use greenling::time::*;
    use std::io::*;

    #[test]
    fn globs_of_ours_and_of_stds_go_together() {
        let handle = spawn(|| sleep(Duration::ZERO));
        handle.join().unwrap();
        assert_eq!(*Mutex::new(empty().bytes().count()).lock().unwrap(), 0);
    }
}
