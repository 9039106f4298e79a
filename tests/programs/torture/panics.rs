// SPDX-License-Identifier: BSD-2-Clause
//! Panics on every way through traced frames: panics [ROUNDS]
//!
//!     rustc --edition 2021 -g -C opt-level=2 -o panics panics.rs
//!
//! * `panics::thrower`: panics for every number that isn't a multiple of 3
//! * `panics::passes`: lets it pass, and drops a value whose drop panics and catches (`panics::swallows`) meanwhile
//! * `panics::again`: catches, and goes on with the same panic (`resume_unwind`)
//! * `panics::lands`: runs in a thread of its own that dies of the panic; its parent joins it
//!
//! What it prints is told in torture.h.
use std::hint::black_box;
use std::io::{self, BufRead, Write};
use std::panic::{self, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

struct Count(AtomicU64, AtomicU64);

impl Count {
    const fn new() -> Count {
        Count(AtomicU64::new(0), AtomicU64::new(0))
    }

    fn enters(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    fn leaves(&self) {
        self.1.fetch_add(1, Relaxed);
    }
}

static THROWER: Count = Count::new();
static PASSES: Count = Count::new();
static SWALLOWS: Count = Count::new();
static AGAIN: Count = Count::new();
static LANDS: Count = Count::new();
static SURVIVED: AtomicU64 = AtomicU64::new(0);

#[inline(never)]
fn thrower(number: u64) -> u64 {
    THROWER.enters();
    if black_box(number) % 3 != 0 {
        panic!("{number}");
    }
    THROWER.leaves();
    number + 1
}

struct Guard(u64);

impl Drop for Guard {
    fn drop(&mut self) {
        black_box(swallows(self.0));
    }
}

#[inline(never)]
fn swallows(number: u64) -> u64 {
    SWALLOWS.enters();
    let result = catch_unwind(|| thrower(number)).unwrap_or_else(|_| {
        SURVIVED.fetch_add(1, Relaxed);
        0
    });
    SWALLOWS.leaves();
    result
}

#[inline(never)]
fn passes(number: u64) -> u64 {
    PASSES.enters();
    let _guard = Guard(number);
    let result = thrower(number);
    PASSES.leaves();
    result
}

#[inline(never)]
fn again(number: u64) -> u64 {
    AGAIN.enters();
    match catch_unwind(|| passes(number)) {
        Ok(result) => {
            AGAIN.leaves();
            result
        }
        Err(thrown) => {
            SURVIVED.fetch_add(1, Relaxed);
            resume_unwind(thrown)
        }
    }
}

#[inline(never)]
fn lands(number: u64) -> u64 {
    LANDS.enters();
    let result = again(number);
    LANDS.leaves();
    black_box(result)
}

fn main() {
    let rounds: u64 = std::env::args().nth(1).map_or(997, |text| text.parse().expect("not a number"));
    let (mut checksum, mut expected) = (0, 0);

    panic::set_hook(Box::new(|_| {})); // the panics are meant
    println!("{{\"ready\": \"panics\", \"pid\": {}}}", std::process::id());
    io::stdout().flush().expect("stdout");
    let _ = io::stdin().lock().read_line(&mut String::new());
    for number in 0..rounds {
        let result = if number % 16 == 0 {
            thread::spawn(move || lands(number)).join()
        } else {
            catch_unwind(|| again(number))
        };
        checksum += match result {
            Ok(value) => value,
            Err(thrown) => {
                SURVIVED.fetch_add(1, Relaxed);
                thrown.downcast::<String>().expect("a text").parse().expect("a number")
            }
        };
        expected += if number % 3 == 0 { number + 1 } else { number };
    }
    let functions =
        [("thrower", &THROWER), ("passes", &PASSES), ("swallows", &SWALLOWS), ("again", &AGAIN), ("lands", &LANDS)];
    let told = |field: fn(&Count) -> &AtomicU64| {
        let rows: Vec<String> =
            functions.iter().map(|(name, count)| format!("\"panics::{name}\": {}", field(count).load(Relaxed))).collect();
        rows.join(", ")
    };
    println!(
        "{{\"program\": \"panics\", \"pid\": {}, \"calls\": {{{}}}, \"returns\": {{{}}}, \"survived\": {}, \"checksum\": {checksum}, \"expected\": {expected}}}",
        std::process::id(),
        told(|count| &count.0),
        told(|count| &count.1),
        SURVIVED.load(Relaxed),
    );
}
