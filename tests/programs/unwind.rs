// SPDX-License-Identifier: BSD-2-Clause
//! Functions that a panic unwinds through, and names only Rust has: unwind [PANICS] [RETURNS]
//!
//!     rustc --edition 2021 -g -C opt-level=2 -o unwind unwind.rs    # also: -C symbol-mangling-version=v0
//!
//! * `unwind::panics`: panics PANICS times, returns RETURNS times, mixed
//! * `unwind::passes`: calls it; the panic passes through its frame, which has a value to drop
//! * `unwind::largest`: generic, RETURNS times each with `u64` and `f64`
//! * `<unwind::Square as unwind::Shape>::area`, `<unwind::Circle as ...>::area`: one trait method, two types
//!
//! The keys of the truth are demangled names; what it means is told in truth.h.
use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{self, BufRead, Write};
use std::panic;
use std::time::Instant;

#[derive(Default)]
struct Truth {
    calls: u64,
    returns: u64,
    ns: u128,
}

type Truths = BTreeMap<&'static str, Truth>;

/// Calls once; a panic is caught and counted as no return.
fn called<T>(truths: &mut Truths, name: &'static str, call: impl FnOnce() -> T + panic::UnwindSafe) {
    let start = Instant::now();
    let result = panic::catch_unwind(call);
    let truth = truths.entry(name).or_default();
    truth.calls += 1;
    if result.is_ok() {
        truth.returns += 1;
        truth.ns += start.elapsed().as_nanos();
    }
}

#[inline(never)]
fn panics(number: i64) -> i64 {
    if black_box(number) < 0 {
        panic!("panics: {number}");
    }
    number
}

#[inline(never)]
fn passes(number: i64) -> String {
    let text = format!("number {number}"); // dropped also by the panic
    let same = panics(number);
    format!("{text} {same}")
}

#[inline(never)]
fn largest<T: PartialOrd + Copy>(values: &[T]) -> T {
    let mut best = values[0];
    for &value in values {
        if value > best {
            best = value;
        }
    }
    best
}

trait Shape {
    fn area(&self) -> f64;
}

struct Square(f64);
struct Circle(f64);

impl Shape for Square {
    #[inline(never)]
    fn area(&self) -> f64 {
        self.0 * self.0
    }
}

impl Shape for Circle {
    #[inline(never)]
    fn area(&self) -> f64 {
        self.0 * self.0 * std::f64::consts::PI
    }
}

fn wait_for_line() {
    let _ = io::stdin().lock().read_line(&mut String::new());
}

fn print_truth(truths: &Truths, tid: &str) {
    let counts = |field: fn(&Truth) -> u128| {
        let rows: Vec<String> = truths.iter().map(|(name, truth)| format!("\"{name}\": {}", field(truth))).collect();
        rows.join(", ")
    };
    println!(
        "{{\"program\": \"unwind\", \"pid\": {}, \"tid\": {tid}, \"calls\": {{{}}}, \"returns\": {{{}}}, \"ns\": {{{}}}}}",
        std::process::id(),
        counts(|truth| truth.calls.into()),
        counts(|truth| truth.returns.into()),
        counts(|truth| truth.ns),
    );
}

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).map(|text| text.parse().expect("not a number")).collect();
    let thrown = numbers.first().copied().unwrap_or(23);
    let returned = numbers.get(1).copied().unwrap_or(997);
    let link = std::fs::read_link("/proc/thread-self").expect("/proc/thread-self");
    let tid = link.file_name().expect("a thread has a number").to_string_lossy().into_owned();
    let mut truths = Truths::new();

    panic::set_hook(Box::new(|_| {})); // the panics are meant
    println!("{{\"ready\": \"unwind\", \"pid\": {}}}", std::process::id());
    io::stdout().flush().expect("stdout");
    wait_for_line();

    let all = thrown + returned;
    for i in 0..all {
        let number = if (i + 1) * thrown / all != i * thrown / all { -1 } else { i as i64 };
        called(&mut truths, "unwind::panics", || panics(black_box(number)));
        called(&mut truths, "unwind::passes", || passes(black_box(number)));
    }
    // passes called panics, too
    if let Some(truth) = truths.get_mut("unwind::panics") {
        truth.calls += all;
        truth.returns += returned;
    }
    let shapes: [(&'static str, Box<dyn Shape + panic::RefUnwindSafe>); 2] = [
        ("<unwind::Square as unwind::Shape>::area", Box::new(Square(2.0))),
        ("<unwind::Circle as unwind::Shape>::area", Box::new(Circle(2.0))),
    ];
    for i in 0..returned {
        called(&mut truths, "unwind::largest<u64>", || largest(black_box(&[i, 3, 5])));
        called(&mut truths, "unwind::largest<f64>", || largest(black_box(&[1.5, 2.5])));
        for (name, shape) in &shapes {
            called(&mut truths, name, || black_box(shape).area());
        }
    }
    print_truth(&truths, &tid);
}
