//! In which order items leave a queue.

#![forbid(unsafe_code)]

use std::collections::VecDeque;

/// A heap of items, in some sense of the word.
pub(crate) trait Store<T> {
    /// Whether the methods call code of the item's type, which may panic, wait, or use the queue.
    const COMPARES: bool;

    fn push(&mut self, item: T);
    fn pop(&mut self) -> Option<T>;
    /// What `pop` would give.
    fn peek(&self) -> Option<&T>;
    fn len(&self) -> usize;

    /// `pop` and then `push`, such that a panic loses neither.
    fn exchange(&mut self, item: T) -> Option<T> {
        let first = self.pop();
        self.push(item);
        first
    }
}

/// First in, first out.
pub(crate) type Fifo<T> = VecDeque<T>;

impl<T> Store<T> for Fifo<T> {
    const COMPARES: bool = false;

    #[inline]
    fn push(&mut self, item: T) {
        self.push_back(item);
    }

    #[inline]
    fn pop(&mut self) -> Option<T> {
        self.pop_front()
    }

    fn peek(&self) -> Option<&T> {
        self.front()
    }

    #[inline]
    fn len(&self) -> usize {
        self.len()
    }
}

/// Last in, first out.
pub(crate) type Lifo<T> = Vec<T>;

impl<T> Store<T> for Lifo<T> {
    const COMPARES: bool = false;

    #[inline]
    fn push(&mut self, item: T) {
        self.push(item);
    }

    #[inline]
    fn pop(&mut self) -> Option<T> {
        self.pop()
    }

    fn peek(&self) -> Option<&T> {
        self.last()
    }

    #[inline]
    fn len(&self) -> usize {
        self.len()
    }
}

/// The least first; among equals, first in, first out.
///
/// A binary heap that is written out because std's loses an item if a comparison panics. Here every item
/// is in `heap` whenever one is made; after a panic only the order is wrong.
pub(crate) struct Heap<T> {
    /// With the number of its arrival.
    heap: Vec<(T, u64)>,
    arrivals: u64,
}

impl<T> Heap<T> {
    pub(super) const fn new() -> Self {
        Heap { heap: Vec::new(), arrivals: 0 }
    }
}

impl<T: Ord> Heap<T> {
    fn place(&mut self, item: T) {
        self.heap.push((item, self.arrivals));
        self.arrivals += 1;
    }

    fn sift_up(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.heap[parent].cmp(&self.heap[place]).is_le() {
                break;
            }
            self.heap.swap(parent, place);
            place = parent;
        }
    }

    /// Restores the order from the root down, in the first `len` items.
    fn sift_down(&mut self, len: usize) {
        let mut place = 0;
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            if left >= len {
                break;
            }
            let is_right = right < len && self.heap[right].cmp(&self.heap[left]).is_lt();
            let least = if is_right { right } else { left };
            if self.heap[place].cmp(&self.heap[least]).is_le() {
                break;
            }
            self.heap.swap(place, least);
            place = least;
        }
    }
}

impl<T: Ord> Store<T> for Heap<T> {
    const COMPARES: bool = true;

    fn push(&mut self, item: T) {
        self.place(item);
        self.sift_up(self.heap.len() - 1);
    }

    fn pop(&mut self) -> Option<T> {
        let last = self.heap.len().checked_sub(1)?;
        self.heap.swap(0, last);
        self.sift_down(last);
        self.heap.pop().map(|(item, _)| item)
    }

    fn peek(&self) -> Option<&T> {
        self.heap.first().map(|(item, _)| item)
    }

    fn len(&self) -> usize {
        self.heap.len()
    }

    fn exchange(&mut self, item: T) -> Option<T> {
        self.place(item);
        let last = self.heap.len() - 1;
        if last == 0 {
            return None;
        }
        // The least goes to the place before the new one, what was there to the root.
        self.heap.swap(0, last - 1);
        self.sift_down(last - 1);
        // Now the least and the new one change places, and the new one belongs to the heap.
        self.heap.swap(last - 1, last);
        self.sift_up(last - 1);
        self.heap.pop().map(|(item, _)| item)
    }
}

#[cfg(test)]
mod tests {
    use super::{Fifo, Heap, Lifo, Store};

    /// Compares like its first field alone, so that equals can be told apart.
    #[derive(Debug, Clone, Copy)]
    struct Item(u8, u32);

    impl PartialEq for Item {
        fn eq(&self, other: &Item) -> bool {
            self.0 == other.0
        }
    }
    impl Eq for Item {}
    impl PartialOrd for Item {
        fn partial_cmp(&self, other: &Item) -> Option<std::cmp::Ordering> {
            Some(self.cmp(other))
        }
    }
    impl Ord for Item {
        fn cmp(&self, other: &Item) -> std::cmp::Ordering {
            self.0.cmp(&other.0)
        }
    }

    #[test]
    fn the_heap_gives_the_least_and_equals_in_order_of_arrival() {
        let mut heap = Heap::new();
        let mut model: Vec<Item> = Vec::new();
        let least = |model: &[Item]| {
            let key = |&(place, item): &(usize, &Item)| (item.0, place);
            model.iter().enumerate().min_by_key(key).map(|(place, _)| place)
        };
        for n in 0..20_000 {
            let item = Item(fastrand::u8(..8), n);
            let expected = match fastrand::u8(..4) {
                0 | 1 if model.len() < 50 => {
                    heap.push(item);
                    model.push(item);
                    continue;
                }
                2 => {
                    let first = least(&model).map(|place| model.remove(place).1);
                    model.push(item);
                    assert_eq!(heap.exchange(item).map(|item| item.1), first);
                    continue;
                }
                _ => least(&model).map(|place| model.remove(place).1),
            };
            assert_eq!(heap.peek().map(|item| item.1), expected);
            assert_eq!(heap.pop().map(|item| item.1), expected);
            assert_eq!(heap.len(), model.len());
        }
    }

    #[test]
    fn peek_shows_what_pop_gives() {
        let (mut fifo, mut lifo) = (Fifo::new(), Lifo::new());
        for n in 0..3 {
            Store::push(&mut fifo, n);
            Store::push(&mut lifo, n);
        }
        assert_eq!((fifo.peek(), lifo.peek()), (Some(&0), Some(&2)));
        assert_eq!((fifo.exchange(3), lifo.exchange(3)), (Some(0), Some(2)));
        assert_eq!((Store::pop(&mut fifo), Store::pop(&mut lifo)), (Some(1), Some(3)));
    }
}
