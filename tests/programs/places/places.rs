// SPDX-License-Identifier: BSD-2-Clause
#![allow(dead_code, improper_ctypes_definitions)]
use std::hint::black_box;
#[derive(Clone,Copy)] pub struct One(u64);
#[derive(Clone,Copy)] pub struct F1(f64);
#[derive(Clone,Copy)] pub struct Pair{a:u32,b:u64}
#[derive(Clone,Copy)] pub struct P3{a:u8,b:u8,c:u8}
#[derive(Clone,Copy)] pub struct Three{a:u64,b:u64,c:u64}
#[derive(Clone,Copy)] pub struct Mix{a:u64,b:f64}
#[derive(Clone,Copy)] pub struct Mem16{a:u32,b:u32,c:u64}
#[derive(Clone,Copy)] pub enum E{A(u32),B(u32),C}
#[derive(Clone,Copy)] pub enum E2{A(u32),B(u64)}
#[derive(Clone,Copy)] pub enum E3{A(u32),B(f32)}
#[derive(Clone,Copy)] pub enum E4{A(u8,u8),B}
#[repr(C)] #[derive(Clone,Copy)] pub struct CF(f64);
#[repr(C)] #[derive(Clone,Copy)] pub struct CP{a:u64,b:u64}
#[inline(never)] pub fn f01(a:One,b:F1,c:CF)->One{black_box((a,b.0,c.0));a}
#[inline(never)] pub fn f02(a:Pair,b:P3)->Pair{black_box((a,b));a}
#[inline(never)] pub fn f03(a:Three,b:Mix)->Three{black_box((a,b));a}
#[inline(never)] pub fn f04(a:Mem16,b:[u8;4],c:[u64;2])->Mem16{black_box((a,b,c));a}
#[inline(never)] pub fn f05(a:E,b:E2,c:E3,d:E4)->E{black_box((a,b,c,d));a}
#[inline(never)] pub fn f06(a:&str,b:String,c:Vec<u32>,d:&[u8])->String{black_box((a,&c,d));b}
#[inline(never)] pub fn f07(a:Option<u64>,b:Option<Box<u64>>,c:Option<&str>,d:Result<u32,String>)->Option<u64>{black_box((&b,c,&d));a}
#[inline(never)] pub fn f08(a:u128,b:i128,c:u64,d:u128)->u128{black_box((b,c,d));a}
#[inline(never)] pub fn f09<'a>(a:u64,b:&'a str,c:&'a str,d:&'a str,e:u64)->&'a str{black_box((a,b,d,e));c}
#[inline(never)] pub fn f10(a:f32,b:f64,c:Mix)->Mix{black_box((a,b));c}
#[inline(never)] pub fn f11(a:&dyn std::fmt::Debug,b:Box<dyn Fn(u64)->u64>,c:char,d:bool)->u64{black_box((a,c,d));b(1)}
#[inline(never)] pub fn f12(a:(),b:u64,c:CP)->CP{black_box((a,b));c}
#[inline(never)] pub fn f13(a:Result<u64,u64>,b:Result<(),String>)->Result<u64,u64>{black_box(&b);a}
#[inline(never)] pub fn f14(a:u64)->[u64;2]{[a,black_box(a)]}
#[inline(never)] pub fn f15(a:u64)->P3{black_box(a);P3{a:1,b:2,c:3}}
#[inline(never)] pub fn f16(a:u64)->E2{E2::B(black_box(a))}
#[inline(never)] pub extern "C" fn f17(a:CP,b:CF)->CP{black_box(b.0);a}
fn main(){
 let s=String::from("x");
 f01(One(1),F1(2.0),CF(3.0)); f02(Pair{a:1,b:2},P3{a:1,b:2,c:3}); f03(Three{a:1,b:2,c:3},Mix{a:1,b:2.0});
 f04(Mem16{a:1,b:2,c:3},[1,2,3,4],[1,2]); f05(E::A(1),E2::A(2),E3::B(1.0),E4::A(1,2)); f06("a",s,vec![1],&[1]);
 f07(Some(1),None,Some("x"),Ok(1)); f08(1,2,3,4); f09(1,"a","b","c",2); f10(1.0,2.0,Mix{a:1,b:1.0});
 f11(&1,Box::new(|x|x),'c',true); f12((),1,CP{a:1,b:2}); f13(Ok(1),Ok(())); f14(1);f15(1);f16(1);f17(CP{a:1,b:2},CF(1.0));
}
