//! Models of what threads share in the server, as those of the cache.

use super::shared::{Admission, Mail};
use crate::cache::models::{finds, holds};
use crate::ring::kernel::{Kind, Token};
use crate::sync::Race;
use shuttle::sync::Mutex;
use shuttle::thread;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// More come than may be served at once.
fn no_more_are_admitted_than_may_be() {
    let admission = Admission::new(2);
    let admitted = Arc::new(Mutex::new(0));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (admission, admitted) = (admission.clone(), admitted.clone());
            thread::spawn(move || {
                let Some(place) = admission.admit() else { return };
                *admitted.lock().unwrap() += 1;
                assert!(*admitted.lock().unwrap() <= 2);
                *admitted.lock().unwrap() -= 1;
                drop(place);
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(admission.open(), 0);
}

/// Messages that the kernel refuses are left for the worker's ticks: each is found once.
fn no_message_is_lost() {
    let mail = Arc::new(Mail::new(1).unwrap());
    // No ring: the kernel refuses every message to it.
    let file = std::fs::File::open("/dev/null").unwrap();
    mail.register(0, file.as_raw_fd());
    let senders: Vec<_> = (0..2)
        .map(|number| {
            let mail = mail.clone();
            thread::spawn(move || (0..2).for_each(|second| mail.send(0, Token::new(Kind::Wake, number, second))))
        })
        .collect();
    let mut found = Vec::new();
    for _ in 0..2 {
        found.extend(mail.take_missed(0));
        thread::yield_now();
    }
    senders.into_iter().for_each(|thread| thread.join().unwrap());
    found.extend(mail.take_missed(0));
    assert_eq!(found.len(), 4);
}

#[test]
fn admission() {
    holds(no_more_are_admitted_than_may_be);
    finds(Race::PlaceTakenAfterLook, no_more_are_admitted_than_may_be);
}

#[test]
fn mailbox() {
    holds(no_message_is_lost);
    finds(Race::MailEmptiedAfterRead, no_message_is_lost);
}
