// SPDX-License-Identifier: BSD-2-Clause
//! A worker to be traced, with what Rust adds to function names: orders [SECONDS]
//!
//! * `orders::largest`: a generic function, compiled once for `u64` and once for `&str`; both copies have this name,
//!   unless compiled with `-C symbol-mangling-version=v0`, where they are `orders::largest::<u64>` and `<&str>`
//! * `<orders::Cash as orders::Payment>::pay` and `<orders::Card as ...>::pay`: one trait method, two types
//! * `orders::ship`: panics for every seventh order; `catch_unwind` catches it
//!
//! It prints its pid when it starts and how often it called what when it ends, after SECONDS (default: 10).
use std::hint::black_box;
use std::panic;
use std::thread;
use std::time::{Duration, Instant};

trait Payment {
    fn pay(&mut self, cents: u64) -> u64;
}

#[derive(Default)]
struct Cash {
    calls: u64,
}

#[derive(Default)]
struct Card {
    calls: u64,
}

impl Payment for Cash {
    #[inline(never)]
    fn pay(&mut self, cents: u64) -> u64 {
        self.calls += 1;
        cents - cents % 5
    }
}

impl Payment for Card {
    #[inline(never)]
    fn pay(&mut self, cents: u64) -> u64 {
        self.calls += 1;
        thread::sleep(Duration::from_micros(if self.calls % 53 == 0 { 20_000 } else { 200 }));
        cents
    }
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

#[inline(never)]
fn ship(number: u64) -> String {
    let parcel = format!("parcel {number}"); // dropped also by the panic
    if number % 7 == 0 {
        panic!("{parcel} is lost");
    }
    parcel
}

fn main() {
    let seconds: f64 = std::env::args().nth(1).map_or(10.0, |text| text.parse().expect("SECONDS is no number"));
    let start = Instant::now();
    let (mut cash, mut card) = (Cash::default(), Card::default());
    let (mut orders, mut lost) = (0u64, 0u64);

    panic::set_hook(Box::new(|_| {})); // a lost parcel is no news
    println!("orders: pid {}", std::process::id());
    while start.elapsed().as_secs_f64() < seconds {
        let dearest = largest(&[orders % 13, orders % 17, orders % 19]);
        let first = largest(black_box(&["ada", "grace", "linus"]));
        let method: &mut dyn Payment = if orders % 2 == 0 { &mut cash } else { &mut card };
        method.pay(dearest + first.len() as u64);
        if panic::catch_unwind(|| ship(orders)).is_err() {
            lost += 1;
        }
        orders += 1;
        thread::sleep(Duration::from_millis(1));
    }

    println!("orders::largest                            {orders} of each copy");
    println!("<orders::Cash as orders::Payment>::pay     {}", cash.calls);
    println!("<orders::Card as orders::Payment>::pay     {}", card.calls);
    println!("orders::ship                               {orders}, of which {lost} panicked");
}
