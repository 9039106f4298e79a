// SPDX-License-Identifier: BSD-2-Clause
//! Calls functions of every kind of signature Rust has, three times each with other values, and tells the values:
//! signatures
//!
//!     rustc --edition 2021 -C debuginfo=2 -C opt-level=0 -o signatures signatures.rs    # also: -C opt-level=3
//!
//! The functions are called through pointers the compiler can't see through, so it keeps their signatures.
//! `go/signatures/main.go` describes the values; an enum with data is `{"$variant": NAME, "$value": VALUE}`.
use std::collections::BTreeMap;
use std::fmt::Display;
use std::hint::black_box;
use std::io::{self, BufRead, Write};

#[derive(Clone, Copy)]
pub struct Point {
    x: i32,
    y: i32,
}

#[derive(Clone, Copy)]
pub struct Wide {
    id: u8,
    total: u64,
}

#[derive(Clone)]
pub struct Large {
    number: i64,
    name: String,
    numbers: [u16; 4],
    ratio: f64,
}

#[derive(Clone, Copy)]
pub struct Metres(u32);

#[derive(Clone, Copy, Debug)]
pub enum Level {
    Low = 1,
    Middle,
    High = 200,
}

#[derive(Clone)]
pub enum Shape {
    Empty,
    Circle(u32),
    Named { id: u16, width: i64 },
}

macro_rules! used {
    ($($value:ident),*) => { $( black_box(&$value); )* };
}

#[inline(never)]
fn int8s(a: i8, b: i8) -> i8 {
    used!(a, b);
    a.wrapping_sub(b)
}
#[inline(never)]
fn int16s(a: i16, b: u16) -> i16 {
    used!(a, b);
    a.wrapping_sub(b as i16)
}
#[inline(never)]
fn int32s(a: i32, b: u32) -> u32 {
    used!(a, b);
    b.wrapping_sub(a as u32)
}
#[inline(never)]
fn int64s(a: i64, b: u64) -> u64 {
    used!(a, b);
    b.wrapping_sub(a as u64)
}
#[inline(never)]
fn sizes(a: isize, b: usize, c: u8) -> usize {
    used!(a, b, c);
    b + c as usize
}
#[inline(never)]
fn bools(a: bool, b: bool) -> bool {
    used!(a, b);
    a != b
}
#[inline(never)]
fn chars(c: char, n: i32) -> char {
    used!(c, n);
    c
}
#[inline(never)]
fn str_slice(s: &str, n: u32) -> &str {
    used!(s, n);
    &s[1..]
}
#[inline(never)]
fn string(s: String, n: u32) -> usize {
    used!(s, n);
    s.len()
}
#[inline(never)]
fn string_ref(s: &String, n: u32) -> usize {
    used!(s, n);
    s.len()
}
#[inline(never)]
fn gives_string(n: u32) -> String {
    used!(n);
    format!("given {n}")
}
#[inline(never)]
fn vector(v: Vec<u32>, n: u32) -> usize {
    used!(v, n);
    v.len()
}
#[inline(never)]
fn vector_ref(v: &Vec<u32>, n: u32) -> usize {
    used!(v, n);
    v.len()
}
#[inline(never)]
fn slice(v: &[u32], n: u32) -> usize {
    used!(v, n);
    v.len()
}
#[inline(never)]
fn byte_slice(v: &[u8], n: u32) -> usize {
    used!(v, n);
    v.len()
}
#[inline(never)]
fn small_struct(p: Point, n: i32) -> Point {
    used!(p, n);
    Point { x: p.y, y: p.x + n }
}
#[inline(never)]
fn pair_struct(w: Wide, n: i32) -> u64 {
    used!(w, n);
    w.total + n as u64
}
#[inline(never)]
fn large_struct(l: Large, n: i32) -> i64 {
    used!(l, n);
    l.number + n as i64
}
#[inline(never)]
fn struct_ref(l: &Large, p: &mut Point, n: i32) -> i64 {
    used!(l, p, n);
    p.x += n;
    l.number
}
#[inline(never)]
fn newtype(m: Metres, n: u32) -> Metres {
    used!(m, n);
    Metres(m.0 + n)
}
#[inline(never)]
fn gives_large(n: i64) -> Large {
    used!(n);
    Large { number: n, name: format!("large {n}"), numbers: [1, 2, 3, n as u16], ratio: 0.5 }
}
#[inline(never)]
fn option_number(o: Option<u64>, n: u32) -> Option<u64> {
    used!(o, n);
    o.map(|value| value + 1)
}
#[inline(never)]
fn option_ref(o: Option<&Point>, n: u32) -> bool {
    used!(o, n);
    o.is_some()
}
#[inline(never)]
fn level(l: Level, n: u32) -> Level {
    used!(l, n);
    l
}
#[inline(never)]
fn shape(s: &Shape, n: u32) -> u32 {
    used!(s, n);
    n
}
#[inline(never)]
fn result(n: i32) -> Result<i32, i32> {
    used!(n);
    if n == 1 {
        Err(-n)
    } else {
        Ok(n)
    }
}
#[inline(never)]
fn tuple(t: (u32, i64), n: u32) -> (i64, u32) {
    used!(t, n);
    (t.1, t.0 + n)
}
#[inline(never)]
fn boxed(b: Box<Point>, n: i32) -> i32 {
    used!(b, n);
    b.x + n
}
#[inline(never)]
fn array(a: [i16; 3], b: &[i32; 2], n: i32) -> i32 {
    used!(a, b, n);
    a[2] as i32 + b[1] + n
}
#[inline(never)]
fn floats(a: i32, f: f64, b: i32, g: f32) -> f64 {
    used!(a, f, b, g);
    f + g as f64
}
#[inline(never)]
fn many(a: i64, b: i64, c: i64, d: i64, e: i64, f: i64, g: i64, h: i32) -> i64 {
    used!(a, b, c, d, e, f, g, h);
    g
}
#[inline(never)]
fn generic<T: PartialOrd + Copy>(a: T, b: T, n: u32) -> T {
    used!(a, b, n);
    if a > b {
        a
    } else {
        b
    }
}

impl Large {
    #[inline(never)]
    fn method(&mut self, n: i64) -> i64 {
        used!(n);
        self.number += n;
        self.number
    }
}

pub trait Priced {
    fn price(&self, amount: i32) -> i32;
}

impl Priced for Point {
    #[inline(never)]
    fn price(&self, amount: i32) -> i32 {
        used!(amount);
        self.x * amount
    }
}

fn number(value: impl Display) -> String {
    value.to_string()
}
fn quoted(value: impl Display) -> String {
    format!("\"{value}\"")
}
fn float(value: f64) -> String {
    format!("{{\"$float\": {value:?}}}")
}
fn enumerator(level: Level) -> String {
    format!("{{\"$enum\": \"{level:?}\", \"$value\": {}}}", level as u8)
}
fn list<T: Display>(values: &[T]) -> String {
    format!("[{}]", values.iter().map(|value| value.to_string()).collect::<Vec<_>>().join(", "))
}
fn variant(name: &str, value: Option<String>) -> String {
    value.map_or(format!("{{\"$variant\": \"{name}\"}}"), |value| {
        format!("{{\"$variant\": \"{name}\", \"$value\": {value}}}")
    })
}
fn option(value: Option<u64>) -> String {
    value.map_or(variant("None", None), |value| variant("Some", Some(number(value))))
}

type Row<'a> = &'a [(&'a str, String)];

#[derive(Default)]
struct Told(BTreeMap<&'static str, Vec<String>>);

impl Told {
    fn tell(&mut self, function: &'static str, entry: Row, result: Row) {
        let object =
            |row: Row| row.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect::<Vec<_>>().join(", ");
        let text = format!("{{\"entry\": {{{}}}, \"return\": {{{}}}}}", object(entry), object(result));
        self.0.entry(function).or_default().push(text);
    }

    /// Prints the truth; every function's calls returned.
    fn print(&self, tid: &str) {
        let counts: Vec<_> = self.0.iter().map(|(name, calls)| format!("\"{name}\": {}", calls.len())).collect();
        let values: Vec<_> = self.0.iter().map(|(name, calls)| format!("\"{name}\": [{}]", calls.join(", "))).collect();
        println!(
            "{{\"program\": \"signatures\", \"pid\": {}, \"tid\": {tid}, \
             \"calls\": {{{}}}, \"returns\": {{{}}}, \"values\": {{{}}}}}",
            std::process::id(), counts.join(", "), counts.join(", "), values.join(", ")
        );
    }
}

fn scalars(told: &mut Told, i: i64) {
    let (a, b) = (-100 + i as i8, 20 * i as i8);
    let r = black_box(int8s as fn(i8, i8) -> i8)(a, b);
    told.tell("signatures::int8s", &[("a", number(a)), ("b", number(b))], &[("retval", number(r))]);

    let (a, b) = (-30000 + i as i16, 60000 + i as u16);
    let r = black_box(int16s as fn(i16, u16) -> i16)(a, b);
    told.tell("signatures::int16s", &[("a", number(a)), ("b", number(b))], &[("retval", number(r))]);

    let (a, b) = (-2_000_000_000 + i as i32, 4_000_000_000 + i as u32);
    let r = black_box(int32s as fn(i32, u32) -> u32)(a, b);
    told.tell("signatures::int32s", &[("a", number(a)), ("b", number(b))], &[("retval", number(r))]);

    let (a, b) = (-9_000_000_000_000_000_000 + i, 18_000_000_000_000_000_000 + i as u64);
    let r = black_box(int64s as fn(i64, u64) -> u64)(a, b);
    told.tell("signatures::int64s", &[("a", number(a)), ("b", number(b))], &[("retval", number(r))]);

    let (a, b, c) = (-i as isize, 5_000_000_000 * i as usize, 200 + i as u8);
    let r = black_box(sizes as fn(isize, usize, u8) -> usize)(a, b, c);
    told.tell("signatures::sizes", &[("a", number(a)), ("b", number(b)), ("c", number(c))], &[("retval", number(r))]);

    let (a, b) = (i != 1, i == 2);
    let r = black_box(bools as fn(bool, bool) -> bool)(a, b);
    told.tell("signatures::bools", &[("a", number(a)), ("b", number(b))], &[("retval", number(r))]);

    let c = ['a', 'ä', '漢'][i as usize];
    let shown = format!("{{\"$char\": \"{c}\"}}");
    let r = black_box(chars as fn(char, i32) -> char)(c, i as i32);
    assert!(r == c);
    told.tell("signatures::chars", &[("c", shown.clone()), ("n", number(i))], &[("retval", shown)]);

    let l = [Level::Low, Level::Middle, Level::High][i as usize];
    let r = black_box(level as fn(Level, u32) -> Level)(l, i as u32);
    told.tell("signatures::level", &[("l", enumerator(l)), ("n", number(i))], &[("retval", enumerator(r))]);

    let r = black_box(floats as fn(i32, f64, i32, f32) -> f64)(i as i32, 1.5, -3, 0.25);
    told.tell(
        "signatures::floats",
        &[("a", number(i)), ("f", float(1.5)), ("b", number(-3)), ("g", float(0.25))],
        &[("retval", float(r))],
    );

    let r = black_box(many as fn(i64, i64, i64, i64, i64, i64, i64, i32) -> i64)(i, 2, 3, 4, 5, 6, -7 - i, -8);
    told.tell(
        "signatures::many",
        &[("a", number(i)), ("f", number(6)), ("g", number(-7 - i)), ("h", number(-8))],
        &[("retval", number(r))],
    );

    let r = black_box(generic::<u8> as fn(u8, u8, u32) -> u8)(250 + i as u8, 3, i as u32);
    told.tell(
        "signatures::generic",
        &[("a", number(250 + i)), ("b", number(3)), ("n", number(i))],
        &[("retval", number(r))],
    );

    let r = black_box(generic::<i64> as fn(i64, i64, u32) -> i64)(-i, -1, i as u32);
    told.tell(
        "signatures::generic",
        &[("a", number(-i)), ("b", number(-1)), ("n", number(i))],
        &[("retval", number(r))],
    );
}

fn texts(told: &mut Told, i: i64) {
    let n = i as u32;
    let s = ["one", "two words", "drei äöü"][i as usize];
    let r = black_box(str_slice as for<'a> fn(&'a str, u32) -> &'a str)(s, n);
    told.tell(
        "signatures::str_slice",
        &[("s", quoted(s)), ("n", number(n)), ("len(s)", number(s.len()))],
        &[("retval", quoted(r))],
    );

    let r = black_box(string as fn(String, u32) -> usize)(s.to_string(), n);
    told.tell(
        "signatures::string",
        &[("s", quoted(s)), ("n", number(n)), ("len(s)", number(s.len()))],
        &[("retval", number(r))],
    );

    let owned = String::from(&s[1..]);
    let r = black_box(string_ref as fn(&String, u32) -> usize)(&owned, n);
    told.tell(
        "signatures::string_ref",
        &[("s", quoted(&owned)), ("n", number(n))],
        &[("retval", number(r)), ("s", quoted(&owned))],
    );

    let r = black_box(gives_string as fn(u32) -> String)(n);
    told.tell("signatures::gives_string", &[("n", number(n))], &[("retval", quoted(r))]);
}

fn sequences(told: &mut Told, i: i64) {
    let n = i as u32;
    let v: Vec<u32> = (0..3 + n).map(|value| 4_000_000_000 + value + n).collect();
    let shown = [
        ("v[0]", number(v[0])),
        ("v[2]", number(v[2])),
        ("len(v)", number(v.len())),
        ("v", list(&v)),
        ("n", number(n)),
    ];
    let r = black_box(vector as fn(Vec<u32>, u32) -> usize)(v.clone(), n);
    told.tell("signatures::vector", &shown, &[("retval", number(r))]);
    let r = black_box(vector_ref as fn(&Vec<u32>, u32) -> usize)(&v, n);
    told.tell("signatures::vector_ref", &shown, &[("retval", number(r))]);
    let r = black_box(slice as fn(&[u32], u32) -> usize)(&v[1..], n);
    told.tell(
        "signatures::slice",
        &[("v[0]", number(v[1])), ("len(v)", number(v.len() - 1)), ("n", number(n))],
        &[("retval", number(r))],
    );
    let r = black_box(byte_slice as fn(&[u8], u32) -> usize)(&[7, 8, 200 + i as u8], n);
    told.tell(
        "signatures::byte_slice",
        &[("v[2]", number(200 + i)), ("len(v)", number(3)), ("n", number(n))],
        &[("retval", number(r))],
    );

    let (a, b) = ([1i16, 2, -300 - i as i16], [5i32, -100_000 - i as i32]);
    let r = black_box(array as fn([i16; 3], &[i32; 2], i32) -> i32)(a, &b, n as i32);
    told.tell(
        "signatures::array",
        &[("a[0]", number(1)), ("a[2]", number(a[2])), ("b[1]", number(b[1])), ("n", number(n))],
        &[("retval", number(r))],
    );
}

fn structures(told: &mut Told, i: i64) {
    let n = i as i32;
    let mut p = Point { x: 10 + n, y: -20 - n };
    let at = [("p.x", number(p.x)), ("p.y", number(p.y)), ("n", number(n))];
    let r = black_box(small_struct as fn(Point, i32) -> Point)(p, n);
    told.tell("signatures::small_struct", &at, &[("retval.x", number(r.x)), ("retval.y", number(r.y))]);

    let w = Wide { id: 200 + i as u8, total: 1 << 40 | i as u64 };
    let r = black_box(pair_struct as fn(Wide, i32) -> u64)(w, n);
    told.tell(
        "signatures::pair_struct",
        &[("w.id", number(w.id)), ("w.total", number(w.total)), ("n", number(n))],
        &[("retval", number(r))],
    );

    let mut l = Large { number: -i, name: format!("name {i}"), numbers: [1, 2, 3, 60000 + i as u16], ratio: 0.125 };
    let shown = [
        ("l.number", number(l.number)),
        ("l.name", quoted(&l.name)),
        ("l.numbers[3]", number(l.numbers[3])),
        ("l.ratio", number(l.ratio)),
        ("n", number(n)),
    ];
    let r = black_box(large_struct as fn(Large, i32) -> i64)(l.clone(), n);
    told.tell("signatures::large_struct", &shown, &[("retval", number(r))]);

    let before = [
        ("l.number", number(l.number)),
        ("l.name", quoted(&l.name)),
        ("p.x", number(p.x)),
        ("p.y", number(p.y)),
        ("n", number(n)),
    ];
    let r = black_box(struct_ref as fn(&Large, &mut Point, i32) -> i64)(&l, &mut p, n);
    told.tell("signatures::struct_ref", &before, &[("retval", number(r)), ("p.x", number(p.x))]);

    let r = black_box(gives_large as fn(i64) -> Large)(i);
    told.tell(
        "signatures::gives_large",
        &[("n", number(i))],
        &[
            ("retval.number", number(r.number)),
            ("retval.name", quoted(&r.name)),
            ("retval.numbers[3]", number(r.numbers[3])),
            ("retval.ratio", number(r.ratio)),
        ],
    );

    let r = black_box(newtype as fn(Metres, u32) -> Metres)(Metres(100 + i as u32), 5);
    told.tell("signatures::newtype", &[("m.0", number(100 + i)), ("n", number(5))], &[("retval.0", number(r.0))]);

    let r = black_box(tuple as fn((u32, i64), u32) -> (i64, u32))((7 + i as u32, -i), 9);
    told.tell(
        "signatures::tuple",
        &[("t.0", number(7 + i)), ("t.1", number(-i)), ("n", number(9))],
        &[("retval.0", number(r.0)), ("retval.1", number(r.1))],
    );

    let r = black_box(boxed as fn(Box<Point>, i32) -> i32)(Box::new(p), n);
    told.tell(
        "signatures::boxed",
        &[("b.x", number(p.x)), ("b.y", number(p.y)), ("n", number(n))],
        &[("retval", number(r))],
    );

    let before = l.number;
    let r = black_box(Large::method as fn(&mut Large, i64) -> i64)(&mut l, 1000);
    told.tell(
        "signatures::Large::method",
        &[("self.number", number(before)), ("self.name", quoted(&l.name)), ("n", number(1000))],
        &[("retval", number(r)), ("self.number", number(r))],
    );

    let priced: &dyn Priced = black_box(&p);
    let r = priced.price(n + 2);
    told.tell(
        "<signatures::Point as signatures::Priced>::price",
        &[("self.x", number(p.x)), ("amount", number(n + 2))],
        &[("retval", number(r))],
    );
}

fn enums(told: &mut Told, i: i64) {
    let n = i as u32;
    let o = if i == 1 { None } else { Some(1 << 50 | i as u64) };
    let r = black_box(option_number as fn(Option<u64>, u32) -> Option<u64>)(o, n);
    told.tell("signatures::option_number", &[("o", option(o)), ("n", number(n))], &[("retval", option(r))]);

    let p = Point { x: 5, y: 6 };
    let o = if i == 1 { None } else { Some(&p) };
    let r = black_box(option_ref as fn(Option<&Point>, u32) -> bool)(o, n);
    let shown = o.map_or(variant("None", None), |p| {
        variant("Some", Some(format!("{{\"$pointer\": {}}}", p as *const Point as usize)))
    });
    told.tell("signatures::option_ref", &[("o", shown), ("n", number(n))], &[("retval", number(r))]);

    let s = [Shape::Empty, Shape::Circle(77), Shape::Named { id: 60000, width: -5 }][i as usize].clone();
    let r = black_box(shape as fn(&Shape, u32) -> u32)(&s, n);
    let shown = match s {
        Shape::Empty => variant("Empty", None),
        Shape::Circle(radius) => variant("Circle", Some(number(radius))),
        Shape::Named { id, width } => variant("Named", Some(format!("{{\"id\": {id}, \"width\": {width}}}"))),
    };
    told.tell("signatures::shape", &[("s", shown), ("n", number(n))], &[("retval", number(r))]);

    let r = black_box(result as fn(i32) -> Result<i32, i32>)(n as i32);
    let shown = match r {
        Ok(value) => variant("Ok", Some(number(value))),
        Err(value) => variant("Err", Some(number(value))),
    };
    told.tell("signatures::result", &[("n", number(n))], &[("retval", shown)]);
}

fn main() {
    let link = std::fs::read_link("/proc/thread-self").expect("/proc/thread-self");
    let tid = link.file_name().expect("a thread has a number").to_string_lossy().into_owned();
    let mut told = Told::default();

    println!("{{\"ready\": \"signatures\", \"pid\": {}}}", std::process::id());
    io::stdout().flush().expect("stdout");
    let _ = io::stdin().lock().read_line(&mut String::new());
    for i in 0..3 {
        scalars(&mut told, i);
        texts(&mut told, i);
        sequences(&mut told, i);
        structures(&mut told, i);
        enums(&mut told, i);
    }
    told.print(&tid);
}
