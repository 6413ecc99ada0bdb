//! Puts the events of all CPUs into one order: that of their times.
//!
//! A free on one CPU may follow the allocation on another; what hands the block over takes longer than
//! the clock's steps, so their times tell. Events of one CPU come nearly in order: an interrupt's stand
//! behind that of the program which it interrupted, whose time may be later.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::wire::Comm;

/// An event that waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub ts: u64,
    /// Of its slot on its CPU.
    pub number: u64,
    /// Its thread's name, if it is an allocation.
    pub name: Comm,
}

/// The events that wait, by CPU.
#[derive(Debug)]
pub struct Order {
    /// Each by time.
    queues: Vec<VecDeque<Waiting>>,
    /// Of each queue the first event's time.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
}

impl Order {
    pub fn new(cpus: usize) -> Order {
        Order {
            queues: vec![VecDeque::new(); cpus],
            heads: BinaryHeap::new(),
        }
    }

    /// Adds an event of `cpu`; call [`Order::begin`] before the next one is taken.
    pub fn push(&mut self, cpu: usize, event: Waiting) {
        let queue = &mut self.queues[cpu];
        let later = queue.iter().rev().take_while(|other| other.ts > event.ts);
        let place = queue.len() - later.count();
        if place == queue.len() {
            queue.push_back(event);
        } else {
            queue.insert(place, event);
        }
    }

    /// Looks which events come first.
    pub fn begin(&mut self) {
        let queues = self.queues.iter().enumerate();
        self.heads = queues
            .filter_map(|(cpu, queue)| Some(Reverse((queue.front()?.ts, cpu))))
            .collect();
    }

    /// Takes the next event, and says of which CPU it is; `None` if all that wait are later than
    /// `until`.
    pub fn next(&mut self, until: u64) -> Option<(usize, Waiting)> {
        let mut head = self.heads.peek_mut()?;
        let Reverse((ts, cpu)) = *head;
        if ts > until {
            return None;
        }
        let event = self.queues[cpu].pop_front()?;
        match self.queues[cpu].front() {
            Some(next) => *head = Reverse((next.ts, cpu)),
            None => {
                std::collections::binary_heap::PeekMut::pop(head);
            }
        }
        Some((cpu, event))
    }

    /// The lowest number that waits on `cpu`.
    pub fn lowest(&self, cpu: usize) -> Option<u64> {
        self.queues[cpu].iter().map(|event| event.number).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(ts: u64, number: u64) -> Waiting {
        Waiting {
            ts,
            number,
            name: [0; 16],
        }
    }

    fn taken(order: &mut Order, until: u64) -> Vec<(usize, u64)> {
        order.begin();
        std::iter::from_fn(|| order.next(until))
            .map(|(cpu, event)| (cpu, event.ts))
            .collect()
    }

    /// Events come by time, whatever CPU they are of and also where one CPU's are not; later ones wait.
    #[test]
    fn by_time() {
        let mut order = Order::new(3);
        for (cpu, ts, number) in [
            (0, 10, 0),
            (0, 50, 1),
            (2, 20, 0),
            (2, 40, 1),
            // interrupted before it took its time
            (2, 38, 2),
            (2, 30, 3),
        ] {
            order.push(cpu, event(ts, number));
        }
        assert_eq!(taken(&mut order, 38), [(0, 10), (2, 20), (2, 30), (2, 38)]);
        assert_eq!((order.lowest(2), order.lowest(1)), (Some(1), None));
        order.push(1, event(39, 0));
        assert_eq!(taken(&mut order, u64::MAX), [(1, 39), (2, 40), (0, 50)]);
        assert_eq!(order.lowest(2), None);
    }
}
