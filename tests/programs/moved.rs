// SPDX-License-Identifier: BSD-2-Clause
//! Parameters that are moved, matched and captured, for builds without optimisation: debug information tells of them
//! only after some instructions, or tells of what captured them only.
//!
//! What it prints: values.h.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::hint::black_box;
use std::io::{self, BufRead, Write};

#[derive(Clone, Copy, Debug)]
struct Three {
    a: u8,
    b: u8,
    c: u8,
}
#[derive(Clone, Copy, Debug)]
struct Twelve {
    a: u32,
    b: u32,
    c: u32,
}
#[derive(Clone, Copy, Debug)]
struct Sixteen {
    a: u64,
    b: u32,
}
#[derive(Clone, Copy, Debug)]
struct Large {
    a: u64,
    b: u64,
    c: i64,
    d: u8,
}
#[derive(Clone)]
struct Owner {
    name: String,
    id: u64,
}

impl Owner {
    fn by_reference(&self, n: u64) -> u64 {
        self.id + n
    }
    fn by_mutable(&mut self, n: u64) -> u64 {
        self.id += n;
        self.id
    }
    fn by_value(self, n: u64) -> String {
        format!("{}{}", self.name, n)
    }
    fn taken_apart(self, id: u64) -> Owner {
        let Owner { name, id: before } = self;
        Owner { name, id: before + id }
    }
}

fn string_moved(s: String, n: u32) -> String {
    let mut moved = s;
    moved.push('!');
    black_box(n);
    moved
}
fn string_changed(mut s: String, n: i32) -> String {
    s.push('x');
    black_box(n);
    s
}
fn two_strings(a: String, n: u64, b: String) -> usize {
    let both = a + &b;
    both.len() + n as usize
}
fn vector_moved(v: Vec<u32>, n: u8) -> Vec<u32> {
    black_box(n);
    v.into_iter().map(|value| value + 1).collect()
}
fn texts(s: &str, t: &str, n: i16) -> usize {
    s.len() + t.len() + n as usize
}
fn three(s: Three, n: u8) -> u8 {
    s.a + s.b + s.c + n
}
fn twelve(s: Twelve, n: u8) -> u32 {
    s.a + s.b + s.c + u32::from(n)
}
fn sixteen(s: Sixteen, n: u8) -> u64 {
    s.a + u64::from(s.b) + u64::from(n)
}
fn large(mut s: Large, n: u8) -> Large {
    s.a += u64::from(n);
    s
}
fn option(o: Option<u64>, n: u32) -> u64 {
    match o {
        Some(x) if x > 5 => x,
        Some(y) => y * 2,
        None => u64::from(n),
    }
}
fn option_text(o: Option<&str>, n: u32) -> usize {
    o.map(str::len).unwrap_or(n as usize)
}
fn option_string(o: Option<String>, n: u32) -> usize {
    if let Some(s) = o {
        s.len()
    } else {
        n as usize
    }
}
fn option_byte(o: Option<u8>, n: u32) -> u32 {
    u32::from(o.unwrap_or(9)) + n
}
fn tuple(t: (u8, u16, u64), n: u8) -> u64 {
    u64::from(t.0) + u64::from(t.1) + t.2 + u64::from(n)
}
fn tuple_text(t: (&str, i32), n: u8) -> i32 {
    t.0.len() as i32 + t.1 + i32::from(n)
}
fn scalars(a: u8, b: i16, c: bool, d: char, e: i128, f: u32) -> u64 {
    u64::from(a) + b as u64 + u64::from(c) + d as u64 + e as u64 + u64::from(f)
}
fn arrays(v: [u8; 4], w: [u32; 6], n: usize) -> u32 {
    u32::from(v[n]) + w[n]
}
fn fallible(n: i32) -> Result<u64, String> {
    if n % 2 == 0 {
        Ok(n as u64 * 3)
    } else {
        Err(format!("odd {n}"))
    }
}
fn question(s: String, n: i32) -> Result<u64, std::num::ParseIntError> {
    let value: u64 = s.parse()?;
    Ok(value + n as u64)
}
fn generic<T: Debug>(t: T, n: u32) -> usize {
    format!("{t:?}").len() + n as usize
}
fn early(s: String, n: u32) -> u32 {
    if n > 1 {
        return 5;
    }
    drop(s);
    n
}
fn floats(x: f64, s: String, y: f32, n: i32) -> f64 {
    x + s.len() as f64 + f64::from(y) + f64::from(n)
}
fn many(a: String, b: &str, c: Vec<u32>, d: Option<u32>, e: Large, f: u64, g: u8) -> u64 {
    (a.len() + b.len() + c.len()) as u64 + u64::from(d.unwrap_or(1)) + e.a + f + u64::from(g)
}
mod shared {
    pub fn apply(amount: u32, n: u32, told: &mut dyn FnMut(u32, u8)) -> u32 {
        let add = |a: u32, b: u8| a + u32::from(b) + amount;
        told(n, 7);
        add(n, 7)
    }
}
mod moved {
    pub fn apply(name: String, n: u32, told: &mut dyn FnMut(u32, u8)) -> u32 {
        let add = move |a: u32, b: u8| a + u32::from(b) + name.len() as u32;
        told(n, 9);
        add(n, 9)
    }
}
mod consumed {
    fn once(f: impl FnOnce(u32, u8) -> String, n: u32) -> String {
        f(n, 11)
    }
    pub fn apply(name: String, n: u32, told: &mut dyn FnMut(u32, u8)) -> String {
        told(n, 11);
        once(move |a: u32, b: u8| if a + u32::from(b) > 0 { name } else { String::new() }, n)
    }
}
mod consumed_text {
    fn once<'a>(f: impl FnOnce(u32, u8) -> Option<&'a str>, n: u32) -> Option<&'a str> {
        f(n, 13)
    }
    pub fn apply<'a>(name: &'a str, n: u32, told: &mut dyn FnMut(u32, u8)) -> Option<&'a str> {
        told(n, 13);
        once(move |a: u32, b: u8| if a + u32::from(b) > 0 { Some(name) } else { None }, n)
    }
}

fn quoted(text: impl Display) -> String {
    format!("\"{text}\"")
}
fn some<T: Display>(value: Option<T>) -> String {
    value.map_or("{\"$variant\": \"None\"}".into(), |value| {
        format!("{{\"$variant\": \"Some\", \"$value\": {value}}}")
    })
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
}

/// Calls a function and tells of it: tell!(told, function(arguments), [name = value], [result => its name = value]).
macro_rules! tell {
    ($told:ident, $name:literal, $call:expr, [$($key:literal = $value:expr),*], $r:pat => [$($of:literal = $result:expr),*]) => {{
        let entry = [$(($key, $value.to_string())),*];
        let $r = $call;
        $told.tell(concat!("moved::", $name), &entry, &[$(($of, $result.to_string())),*]);
    }};
}

fn call_all(told: &mut Told, i: u64) {
    let n = i as u32;
    let s = format!("text {i}");
    let long = "long".repeat(i as usize + 1);
    let q = quoted(&s);
    let v: Vec<u32> = (1000..n + 1002).collect();
    tell!(told, "string_moved", string_moved(s.clone(), n), ["s" = q, "n" = n], r => ["retval" = quoted(r)]);
    tell!(told, "string_changed", string_changed(s.clone(), -3), ["s" = q, "n" = -3], r => ["retval" = quoted(r)]);
    tell!(told, "two_strings", two_strings(s.clone(), i, long.clone()),
        ["a" = q, "n" = i, "b" = quoted(&long)], r => ["retval" = r]);
    tell!(told, "vector_moved", vector_moved(v.clone(), 200),
        ["v" = format!("{v:?}"), "n" = 200], r => ["retval" = format!("{r:?}")]);
    tell!(told, "texts", texts(&s, &long, 2), ["s" = q, "t" = quoted(&long), "n" = 2], r => ["retval" = r]);
    tell!(told, "three", three(Three { a: 1, b: 2, c: i as u8 }, 9),
        ["s.a" = 1, "s.b" = 2, "s.c" = i, "n" = 9], r => ["retval" = r]);
    tell!(told, "twelve", twelve(Twelve { a: 5, b: 6 + n, c: 77 }, 9),
        ["s.a" = 5, "s.b" = 6 + n, "s.c" = 77, "n" = 9], r => ["retval" = r]);
    tell!(told, "sixteen", sixteen(Sixteen { a: 1 << 40, b: 6 + n }, 9),
        ["s.a" = 1u64 << 40, "s.b" = 6 + n, "n" = 9], r => ["retval" = r]);
    let l = Large { a: 1 << 40, b: 6 + i, c: -12, d: 255 };
    tell!(told, "large", large(l, 9), ["s.a" = l.a, "s.b" = l.b, "s.c" = l.c, "s.d" = l.d, "n" = 9],
        r => ["retval.a" = r.a, "retval.c" = r.c, "retval.d" = r.d]);
    let o = if i == 1 { None } else { Some(i + 4) };
    let t = o.map(|_| &s[..]);
    tell!(told, "option", option(o, n), ["o" = some(o), "n" = n], r => ["retval" = r]);
    tell!(told, "option_text", option_text(t, n), ["o" = some(t.map(quoted)), "n" = n], r => ["retval" = r]);
    tell!(told, "option_string", option_string(t.map(String::from), n),
        ["o" = some(t.map(quoted)), "n" = n], r => ["retval" = r]);
    tell!(told, "option_byte", option_byte(o.map(|value| value as u8), n), ["o" = some(o), "n" = n], r => ["retval" = r]);
    tell!(told, "tuple", tuple((1, 60000, i + 1), 200),
        ["t.0" = 1, "t.1" = 60000, "t.2" = i + 1, "n" = 200], r => ["retval" = r]);
    tell!(told, "tuple_text", tuple_text((&s, -9), 200), ["t.0" = q, "t.1" = -9, "n" = 200], r => ["retval" = r]);
    tell!(told, "scalars", scalars(200, 12, i == 1, 'ß', 1, n),
        ["a" = 200, "b" = 12, "c" = i == 1, "d" = "{\"$char\": \"ß\"}", "f" = n], r => ["retval" = r]);
    tell!(told, "arrays", arrays([1, 2, 3, 4], [n, 2, 3, 4, 5, 6], 2),
        ["v[3]" = 4, "w[0]" = n, "w[5]" = 6, "n" = 2], r => ["retval" = r]);
    tell!(told, "fallible", fallible(n as i32), ["n" = n], r => ["retval" = match r {
        Ok(value) => format!("{{\"$variant\": \"Ok\", \"$value\": {value}}}"),
        Err(value) => format!("{{\"$variant\": \"Err\", \"$value\": {}}}", quoted(value)),
    }]);
    let digits = if i == 1 { "x1" } else { "12" };
    tell!(told, "question", question(digits.into(), 5), ["s" = quoted(digits), "n" = 5], _ => []);
    tell!(told, "generic", generic(s.clone(), n), ["t" = q, "n" = n], r => ["retval" = r]);
    tell!(told, "early", early(s.clone(), n), ["s" = q, "n" = n], r => ["retval" = r]);
    tell!(told, "floats", floats(1.5, s.clone(), 2.5, 3), ["s" = q, "n" = 3], _ => []);
    tell!(told, "many", many(s.clone(), &long, v.clone(), o.map(|value| value as u32), l, i, 200),
        ["a" = q, "b" = quoted(&long), "c" = format!("{v:?}"), "d" = some(o), "e.a" = l.a, "e.c" = l.c, "f" = i, "g" = 200],
        r => ["retval" = r]);
    let mut owner = Owner { name: s.clone(), id: 40 };
    tell!(told, "Owner::by_reference", owner.by_reference(i),
        ["self.name" = q, "self.id" = 40, "n" = i], r => ["retval" = r]);
    tell!(told, "Owner::by_mutable", owner.by_mutable(i),
        ["self.name" = q, "self.id" = 40, "n" = i], r => ["retval" = r]);
    tell!(told, "Owner::by_value", owner.clone().by_value(i),
        ["self.name" = q, "self.id" = 40 + i, "n" = i], r => ["retval" = quoted(r)]);
    tell!(told, "Owner::taken_apart", owner.taken_apart(i),
        ["self.name" = q, "self.id" = 40 + i, "id" = i], r => ["retval.name" = quoted(&r.name), "retval.id" = r.id]);

    let of = |a: u32, b: u8| [("a", a.to_string()), ("b", b.to_string())];
    let mut seen = Vec::new();
    let mut keep = |a, b| seen.push(of(a, b));
    let first = shared::apply(30, n, &mut keep).to_string();
    let second = moved::apply(s.clone(), n, &mut keep).to_string();
    let third = consumed::apply(s.clone(), n, &mut keep);
    consumed_text::apply(&s, n, &mut keep);
    told.tell("moved::shared::apply::{{closure}}", &seen[0], &[("retval", first)]);
    told.tell("moved::moved::apply::{{closure}}", &seen[1], &[("retval", second)]);
    told.tell("moved::consumed::apply::{{closure}}", &seen[2], &[("retval", quoted(third))]);
    told.tell("moved::consumed_text::apply::{{closure}}", &seen[3], &[]);
}

fn main() {
    let mut told = Told::default();

    println!("{{\"ready\": \"moved\", \"pid\": {}}}", std::process::id());
    io::stdout().flush().expect("stdout");
    let _ = io::stdin().lock().read_line(&mut String::new());
    for i in 0..3 {
        call_all(&mut told, i);
    }
    let values: Vec<_> = told.0.iter().map(|(name, calls)| format!("\"{name}\": [{}]", calls.join(", "))).collect();
    println!("{{\"program\": \"moved\", \"pid\": {}, \"values\": {{{}}}}}", std::process::id(), values.join(", "));
}
