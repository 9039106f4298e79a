// SPDX-License-Identifier: BSD-2-Clause
// Functions with parameters of all kinds: places.rs and *.go are the same for other languages.
#include <string>
#include <string_view>
#include <vector>
#include <cstdint>
#include <complex>
#define NI extern "C" __attribute__((noinline))
volatile int sink;
template<class T> static void use(const T&t){ const volatile char*p=(const volatile char*)&t; sink+=*p; }
struct Small{int a; char b;}; struct Two{long a,b;}; struct Three{long a,b,c;}; struct Mix{long a;double b;}; struct FF{float a,b,c;};
struct Bits{unsigned a:3; unsigned b:10; long c:40;}; struct Empty{}; struct Der:Small{short c;}; union U{int a;double d;}; struct UU{U u; int x;};
struct __attribute__((packed)) Pk{char a; long b;}; struct Arr{char x[12];}; enum Color{Red,Green}; enum class C8:uint8_t{A,B};
struct NonTriv{int a; NonTriv(const NonTriv&o):a(o.a){sink++;} NonTriv(int x):a(x){} ~NonTriv(){sink++;}};
struct V{virtual int m(int x,double y,std::string s); virtual ~V(){} int q;}; 
NI int n01(int a,long b,char c,bool d,short e,unsigned f,long g,int h){use(a);use(b);use(c);use(d);use(e);use(f);use(g);use(h);return h;}
NI double n02(double a,int b,float c,long double d,long e){use(a);use(b);use(c);use(d);use(e);return a;}
NI Small n03(Small a,Two b,Three c,Mix d){use(a);use(b);use(c);use(d);return a;}
NI Three n04(Three a,FF b,int c){use(a);use(b);use(c);return a;}
NI Bits n05(Bits a,Empty e,Der d,U u,UU w,int z){use(a);use(e);use(d);use(u);use(w);use(z);return a;}
NI Pk n06(Pk a,Arr b,Color c,C8 d){use(a);use(b);use(c);use(d);return a;}
NI NonTriv n07(NonTriv a,int b){use(a);use(b);return a;}
NI std::string n08(std::string a,const std::string&b,std::string_view c,int d){use(a);use(b);use(c);use(d);return a;}
NI __int128 n09(long a,__int128 b,long c,long x,__int128 d,int e){use(a);use(b);use(c);use(d);use(e);use(x);return b;}
NI Two n10(int a,int b,int c,int d,int e,Two f,int g){use(a);use(b);use(c);use(d);use(e);use(f);use(g);return f;}
NI std::complex<double> n11(std::complex<float> a,std::complex<double> b,_Complex float c){use(a);use(b);use(c);return b;}
NI const char* n12(const char*a,void*b,int(*f)(int),int&r,int&&s){use(a);use(b);use(f);use(r);use(s);return a;}
NI int n13(const char*fmt,...){use(fmt);return 1;}
NI std::vector<int> n14(std::vector<int> a,int n){use(a);use(n);return a;}
NI Mix n15(double a,Mix b,Mix c,Mix d,Mix e,Mix f,Mix g,Mix h){use(a);use(b);use(c);use(d);use(e);use(f);use(g);use(h);return h;}
NI void n16(int unused,int b,Three un2,Small c){use(b);use(c);}
int V::m(int x,double y,std::string s){use(x);use(y);use(s);return x;}
static __attribute__((noinline)) int s17(int a,int unused,Small c,int d){use(a);use(c);use(d);return a+d;}
int main(int argc,char**argv){ Small s{1,2};Two t{1,2};Three h{1,2,3};Mix m{1,2};FF f{1,2,3};Bits b{};Empty e;Der d;U u;UU w{};Pk p{};Arr r{};
 n01(1,2,3,1,5,6,7,8);n02(1,2,3,4,5);n03(s,t,h,m);n04(h,f,1);n05(b,e,d,u,w,1);n06(p,r,Red,C8::A);n07(NonTriv(1),2);n08("a","b","c",1);n09(1,2,3,4,5,6);n10(1,2,3,4,5,t,6);
 n11({1,2},{1,2},1);int i=argc;n12("a",0,0,i,1);n13("x",1);n14({1},argc);n15(1,m,m,m,m,m,m,m);n16(1,2,h,s);V v;V*pv=argc>5?new V:&v;pv->m(1,2,"a");
 s17(argc,5,s,argc+1);return 0;}
