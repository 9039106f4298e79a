// SPDX-License-Identifier: BSD-2-Clause

// signatures calls functions of every kind of signature, each three times with other values, and tells the values.
//
// The truth has a key "values": function -> its calls in order -> {"entry": {EXPRESSION: VALUE}, "return": {...}};
// EXPRESSION is how a tracer would be asked, and VALUE is
//
//	number, true, "text", [elements], {"member": value}     themselves
//	{"$pointer": 0xc000012345}                              an address
//	{"$float": 1.5}                                         itself with Go's stack ABI; else in a floating-point register
//	{"$dynamic": "*errors.errorString", "$value": VALUE}    what an interface holds; null: nothing
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"targets/truth"
)

type values map[string]interface{}

type told struct {
	Entry  values `json:"entry"`
	Return values `json:"return"`
}

var (
	all   = map[string][]told{}
	cases []func(i int)
)

func tell(function string, entry, result values) {
	if entry == nil {
		entry = values{}
	}
	if result == nil {
		result = values{}
	}
	all["main."+function] = append(all["main."+function], told{entry, result})
}

func pointer(p unsafe.Pointer) values {
	return values{"$pointer": uintptr(p)}
}

// A number that Go 1.17 and newer pass in a floating-point register
func inRegister(f float64) values {
	return values{"$float": f}
}

func dynamic(v, shown interface{}) interface{} {
	if v == nil {
		return nil
	}
	return values{"$dynamic": fmt.Sprintf("%T", v), "$value": shown}
}

func failure(err error) interface{} {
	if err == nil {
		return nil
	}
	return dynamic(err, err.Error())
}

type point struct{ X, Y int }

type item struct {
	ID    uint32
	Name  string
	Price float64
}

type mixedSizes struct {
	Flag  bool
	Small int16
	Name  string
	Count uint32
}

type address struct {
	Street string
	Zip    int32
}

type customer struct {
	Name    string
	Address address
}

type order struct {
	Number   int64
	Customer *customer
	First    point
}

type big struct{ A, B, C, D, E, F, G, H, I, J int }

type measure struct {
	N     int
	Value float64
	Ratio float32
}

type level int

func (l level) String() string { return [...]string{"low", "middle", "high"}[l] }

type custom struct {
	Code int
	Text string
}

func (c *custom) Error() string { return fmt.Sprintf("custom %d: %s", c.Code, c.Text) }

type counter struct {
	Name  string
	Total int
}

type base struct{ Depth int }

type derived struct {
	Title string
	*base
	point
}

// Kept alive, and where they are
var (
	keep    []interface{}
	items   = []*item{{7, "seven", 7.75}, {8, "eight", 8.5}, {9, "nine", -9.25}}
	orders  = []*order{}
	sink    int
	sinkAny interface{}
)

// --- integers, bool -----------------------------------------------------------------------------------------------

//go:noinline
func int8s(a, b int8) int8 { return a - b }

//go:noinline
func int16s(a, b int16) int16 { return a - b }

//go:noinline
func int32s(a int32, b rune) int32 { return a - b }

//go:noinline
func int64s(a, b int64) int64 { return a - b }

//go:noinline
func uint8s(a uint8, b byte) uint8 { return a + b }

//go:noinline
func uint16s(a, b uint16) uint16 { return a + b }

//go:noinline
func uint32s(a, b uint32) uint32 { return a + b }

//go:noinline
func uint64s(a uint64, b uintptr) uint64 { return a + uint64(b) }

//go:noinline
func machineWords(a int, b uint) uint { return uint(a) + b }

//go:noinline
func bools(a, b bool) bool { return a && !b }

//go:noinline
func durations(wait time.Duration, day time.Weekday) time.Duration { return wait * time.Duration(day) }

func init() {
	cases = append(cases, func(i int) {
		a, b := int8(-100+i), int8(20*i)
		tell("int8s", values{"a": a, "b": b}, values{"retval": int8s(a, b)})
	}, func(i int) {
		a, b := int16(-30000+i), int16(-i)
		tell("int16s", values{"a": a, "b": b}, values{"retval": int16s(a, b)})
	}, func(i int) {
		a, b := int32(-2000000000+i), rune('ä'+i)
		tell("int32s", values{"a": a, "b": b}, values{"retval": int32s(a, b)})
	}, func(i int) {
		a, b := int64(-9000000000000000000+int64(i)), int64(3000000000*i)
		tell("int64s", values{"a": a, "b": b}, values{"retval": int64s(a, b)})
	}, func(i int) {
		a, b := uint8(200+i), byte('A'+i)
		tell("uint8s", values{"a": a, "b": b}, values{"retval": uint8s(a, b)})
	}, func(i int) {
		a, b := uint16(60000+i), uint16(100*i)
		tell("uint16s", values{"a": a, "b": b}, values{"retval": uint16s(a, b)})
	}, func(i int) {
		a, b := uint32(4000000000+uint32(i)), uint32(100*i)
		tell("uint32s", values{"a": a, "b": b}, values{"retval": uint32s(a, b)})
	}, func(i int) {
		a, b := uint64(18000000000000000000+uint64(i)), uintptr(100*i)
		tell("uint64s", values{"a": a, "b": b}, values{"retval": uint64s(a, b)})
	}, func(i int) {
		a, b := -i, uint(5000000000*i)
		tell("machineWords", values{"a": a, "b": b}, values{"retval": machineWords(a, b)})
	}, func(i int) {
		a, b := i != 1, i == 2
		tell("bools", values{"a": a, "b": b}, values{"retval": bools(a, b)})
	}, func(i int) {
		wait, day := time.Duration(i)*time.Second, time.Weekday(i+1)
		tell("durations", values{"wait": int64(wait), "day": int(day)}, values{"retval": int64(durations(wait, day))})
	})
}

// --- strings, slices, maps, channels -------------------------------------------------------------------------------

//go:noinline
func text(s string) string { return s[1:] }

//go:noinline
func emptyText(s string, n int) string { return s[:0] }

//go:noinline
func longText(s string) int { return len(s) }

//go:noinline
func byteSlice(b []byte) int { return len(b) }

//go:noinline
func intSlice(v []int, n int) []int { return v[:n] }

//go:noinline
func structSlice(v []item) int { return len(v) }

//go:noinline
func stringSlice(v []string) int { return len(v) }

//go:noinline
func nilSlice(v []int, b []byte) bool { return v == nil && b == nil }

//go:noinline
func mapLength(m map[string]int, n int) int { return len(m) }

//go:noinline
func channels(c chan int, d <-chan string) int { return cap(c) }

//go:noinline
func variadic(format string, more ...int) int { return len(more) }

func init() {
	cases = append(cases, func(i int) {
		s := [...]string{"one", "two \"quoted\"\n", "drei äöü"}[i]
		tell("text", values{"s": s, "len(s)": len(s)}, values{"retval": text(s)})
	}, func(i int) {
		s := "abc"[:0]
		tell("emptyText", values{"s": s, "n": i}, values{"retval": emptyText(s, i)})
	}, func(i int) {
		s := strings.Repeat("0123456789", 30+i)
		tell("longText", values{"s": s, "len(s)": len(s)}, values{"retval": longText(s)})
	}, func(i int) {
		b := append(make([]byte, 0, 16+i), "bytes\x00\xff"[:5+i]...)
		tell("byteSlice", values{"len(b)": len(b), "cap(b)": cap(b), "b[0]": b[0], "b[4]": b[4]},
			values{"retval": byteSlice(b)})
	}, func(i int) {
		v := append(make([]int, 0, 10), 11+i, -22, 33)
		r := intSlice(v, i)
		tell("intSlice", values{"v[0]": v[0], "v[1]": v[1], "v[2]": v[2], "v": v, "len(v)": 3, "cap(v)": 10, "n": i},
			values{"retval": append([]int{}, r...)})
	}, func(i int) {
		v := []item{{1, "first", 0.5}, {uint32(20 + i), "second"[:i+1], 1.25}}
		tell("structSlice", values{"v[0].ID": v[0].ID, "v[1].ID": v[1].ID, "v[1].Name": v[1].Name, "v[1].Price": v[1].Price,
			"len(v)": 2}, values{"retval": structSlice(v)})
	}, func(i int) {
		v := []string{"alpha"[i:], "beta", ""}
		tell("stringSlice", values{"v[0]": v[0], "v[1]": v[1], "v[2]": v[2], "len(v)": 3}, values{"retval": stringSlice(v)})
	}, func(i int) {
		tell("nilSlice", values{"len(v)": 0, "cap(v)": 0, "len(b)": 0}, values{"retval": nilSlice(nil, nil)})
	}, func(i int) {
		var m map[string]int
		for j := 0; j < 50*i; j++ {
			if m == nil {
				m = map[string]int{}
			}
			m[fmt.Sprint(j)] = j
		}
		tell("mapLength", values{"len(m)": len(m), "n": i}, values{"retval": mapLength(m, i)})
	}, func(i int) {
		c, d := make(chan int, i+5), make(chan string)
		for j := 0; j < i; j++ {
			c <- j
		}
		keep = append(keep, c, d)
		tell("channels", values{"c": values{"type": "chan int", "len": i}, "len(c)": i, "cap(c)": i + 5,
			"cap(d)": 0},
			values{"retval": channels(c, d)})
	}, func(i int) {
		more := make([]int, i, 5)
		for j := range more {
			more[j] = 100 * j
		}
		tell("variadic", values{"format": "%d", "len(more)": i, "more": append([]int{}, more...)},
			values{"retval": variadic("%d", more...)})
	})
}

// --- pointers, structures, arrays ----------------------------------------------------------------------------------

//go:noinline
func pointers(p, q *item, pp **item) *item { return p }

//go:noinline
func rawPointer(p unsafe.Pointer, n *int) int { return *n }

//go:noinline
func structs(a point, b mixedSizes, c int) point { return point{a.Y, a.X} }

//go:noinline
func nested(o order, n int) int { return n }

//go:noinline
func nestedPointer(o *order) int64 { return o.Number }

//go:noinline
func tooLarge(b big, n int) int { return b.J + n }

//go:noinline
func arrayOfOne(a [1]int, s [1]string, n int) [1]int { return [1]int{a[0] + n} }

//go:noinline
func arrayOfFour(a [4]int32, n int) [4]int32 { a[0], a[3] = a[3], int32(n); return a }

//go:noinline
func sevenStrings(a, b, c, d, e, f, g string, h int) int { return len(a) + len(g) + h }

//go:noinline
func twelveInts(a, b, c, d, e, f, g, h, i, j, k, l int) int { return a + l }

//go:noinline
func oddSizes(a int8, b int64, c bool, d uint16, e string, f int32, g uint8, h int16, i bool, j uint32) int32 {
	return f
}

//go:noinline
func zeroSize(a struct{}, n int, b [0]int, m int) int { return n + m }

func init() {
	for i := 0; i < 3; i++ {
		orders = append(orders, &order{int64(1000 + i), &customer{"Ada"[i:], address{"Main St", int32(12345 + i)}},
			point{i, -i}})
	}
	keep = append(keep, &orders, &items)
	cases = append(cases, func(i int) {
		p := items[i]
		tell("pointers", values{"p": pointer(unsafe.Pointer(p)), "p.ID": p.ID, "p.Name": p.Name, "p.Price": p.Price,
			"p->ID": p.ID, "q": pointer(nil), "(*pp).ID": p.ID, "*p": values{"ID": p.ID, "Name": p.Name, "Price": p.Price}},
			values{"retval": pointer(unsafe.Pointer(pointers(p, nil, &items[i]))), "p.ID": p.ID, "retval.ID": p.ID})
	}, func(i int) {
		n := &[]int{40 + i}[0]
		keep = append(keep, n)
		tell("rawPointer", values{"p": pointer(unsafe.Pointer(n)), "*n": 40 + i},
			values{"retval": rawPointer(unsafe.Pointer(n), n)})
	}, func(i int) {
		a, b := point{i + 1, -2 - i}, mixedSizes{i == 1, int16(-300 - i), "named"[i:], 4000000000 + uint32(i)}
		r := structs(a, b, 77+i)
		tell("structs", values{"a.X": a.X, "a.Y": a.Y, "b.Flag": b.Flag, "b.Small": b.Small, "b.Name": b.Name,
			"b.Count": b.Count,
			"c":       77 + i, "a": values{"X": a.X, "Y": a.Y},
			"b": values{"Flag": b.Flag, "Small": b.Small, "Name": b.Name, "Count": b.Count}},
			values{"retval": values{"X": r.X, "Y": r.Y}, "retval.X": r.X, "retval.Y": r.Y})
	}, func(i int) {
		o := *orders[i]
		tell("nested", values{"o.Number": o.Number, "o.Customer.Name": o.Customer.Name,
			"o.Customer.Address.Zip": o.Customer.Address.Zip,
			"o.First.X":              o.First.X, "o.First.Y": o.First.Y, "n": i}, values{"retval": nested(o, i)})
	}, func(i int) {
		o := orders[i]
		tell("nestedPointer", values{"o.Number": o.Number, "o.Customer.Name": o.Customer.Name,
			"o.Customer.Address.Street": o.Customer.Address.Street, "o.First.Y": o.First.Y},
			values{"retval": nestedPointer(o)})
	}, func(i int) {
		b := big{1 + i, 2, 3, 4, 5, 6, 7, 8, 9, -10 - i}
		tell("tooLarge", values{"b.A": b.A, "b.E": b.E, "b.J": b.J, "n": i}, values{"retval": tooLarge(b, i)})
	}, func(i int) {
		r := arrayOfOne([1]int{-5 - i}, [1]string{"only"[i:]}, i)
		tell("arrayOfOne", values{"a[0]": -5 - i, "s[0]": "only"[i:], "n": i}, values{"retval[0]": r[0]})
	}, func(i int) {
		a := [4]int32{1, -2, 3, int32(-40 - i)}
		r := arrayOfFour(a, i)
		tell("arrayOfFour", values{"a[0]": a[0], "a[1]": a[1], "a[3]": a[3], "n": i}, values{"retval[0]": r[0],
			"retval[3]": r[3]})
	}, func(i int) {
		tell("sevenStrings", values{"a": "a1"[i%2:], "b": "b", "c": "cc", "d": "ddd", "e": "e4", "f": "f5f5",
			"g": "gggggg"[i:], "h": 90 + i},
			values{"retval": sevenStrings("a1"[i%2:], "b", "cc", "ddd", "e4", "f5f5", "gggggg"[i:], 90+i)})
	}, func(i int) {
		tell("twelveInts", values{"a": i + 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, "g": 7, "h": 8, "i": -9 - i,
			"j": 10 + i, "k": 11, "l": -12 - i},
			values{"retval": twelveInts(i+1, 2, 3, 4, 5, 6, 7, 8, -9-i, 10+i, 11, -12-i)})
	}, func(i int) {
		tell("oddSizes", values{"a": -1 - i, "b": -2, "c": true, "d": 60004, "e": "five"[i:], "f": -6 - i, "g": 207,
			"h": -8, "i": i == 1, "j": 4000000010},
			values{"retval": oddSizes(int8(-1-i), -2, true, 60004, "five"[i:], int32(-6-i), 207, -8, i == 1, 4000000010)})
	}, func(i int) {
		tell("zeroSize", values{"n": 50 + i, "m": -i}, values{"retval": zeroSize(struct{}{}, 50+i, [0]int{}, -i)})
	})
}

// --- floating point ------------------------------------------------------------------------------------------------

//go:noinline
func mixedFloats(a int, f float64, b int, g float32, s string) float64 { return f + float64(g) }

//go:noinline
func floatsInMemory(m *measure, v []float64) int { return m.N }

//go:noinline
func floatsInStruct(m measure, n int) measure { m.N = n; return m }

//go:noinline
func complexes(c complex128, n int, d complex64) int { return n }

func init() {
	cases = append(cases, func(i int) {
		a, f, b, g, s := 10+i, 1.5+float64(i), -20-i, float32(-0.25), "after"[i:]
		tell("mixedFloats", values{"a": a, "f": inRegister(f), "b": b, "g": inRegister(float64(g)), "s": s},
			values{"retval": inRegister(mixedFloats(a, f, b, g, s))})
	}, func(i int) {
		m, v := &measure{i, 2.5 * float64(i), -0.5}, []float64{float64(i) + 0.125}
		keep = append(keep, m, v)
		tell("floatsInMemory", values{"m.N": m.N, "m.Value": m.Value, "m.Ratio": m.Ratio, "v[0]": v[0]},
			values{"retval": floatsInMemory(m, v), "m.Value": m.Value})
	}, func(i int) {
		m := measure{i, 2.5 * float64(i), -0.5}
		r := floatsInStruct(m, 60+i)
		tell("floatsInStruct", values{"m.N": m.N, "m.Value": inRegister(m.Value), "m.Ratio": inRegister(-0.5), "n": 60 + i},
			values{"retval.N": r.N, "retval.Value": inRegister(r.Value), "retval.Ratio": inRegister(-0.5)})
	}, func(i int) {
		tell("complexes", values{"n": 70 + i}, values{"retval": complexes(complex(1, float64(i)), 70+i, 2i)})
	})
}

// --- interfaces and errors -----------------------------------------------------------------------------------------

//go:noinline
func anything(v interface{}, n int) interface{} { return v }

//go:noinline
func stringers(s fmt.Stringer, n int) int { return n }

//go:noinline
func fails(err error, n int) error { return err }

//go:noinline
func withContext(ctx context.Context, id int, name string) error { return ctx.Err() }

func init() {
	wrapped := fmt.Errorf("reading: %w", errors.New("inner"))
	_, missing := os.Open("/nonexistent/file")
	cases = append(cases, func(i int) {
		v := []interface{}{1234567, "boxed", items[2]}[i]
		shown := []interface{}{1234567, "boxed", values{"$pointer": uintptr(unsafe.Pointer(items[2]))}}[i]
		r := anything(v, i)
		tell("anything", values{"v": dynamic(v, shown), "n": i}, values{"retval": dynamic(r, shown)})
	}, func(i int) {
		sinkAny = nil
		r := anything(sinkAny, 10+i)
		tell("anything", values{"v": nil, "n": 10 + i}, values{"retval": dynamic(r, nil)})
	}, func(i int) {
		l := level(i)
		tell("stringers", values{"s": dynamic(l, i), "n": -i}, values{"retval": stringers(l, -i)})
	}, func(i int) {
		for j, err := range []error{errors.New("plain"[i:]), wrapped, missing, syscall.Errno(2 + i), &custom{i, "own"},
			nil} {
			r := fails(err, 10*i+j)
			shown := failure(err)
			switch err.(type) {
			case *custom: // its text is made by its code
				shown = values{"$dynamic": "*main.custom"}
			case syscall.Errno: // the tracer's C library may word it otherwise
				shown = values{"$dynamic": "syscall.Errno"}
			}
			if r == err {
				tell("fails", values{"err": shown, "n": 10*i + j}, values{"retval": shown})
			}
		}
	}, func(i int) {
		tell("withContext", values{"id": 500 + i, "name": "ctx"[i:]},
			values{"retval": failure(withContext(context.Background(), 500+i, "ctx"[i:]))})
	})
}

// --- methods, closures, functions ----------------------------------------------------------------------------------

//go:noinline
func (p point) plus(q point) point { return point{p.X + q.X, p.Y + q.Y} }

//go:noinline
func (c *counter) add(n int) int { c.Total += n; return c.Total }

//go:noinline
func (b *base) deeper(by int) int { b.Depth += by; return b.Depth }

//go:noinline
func (d *derived) title(n int) string { return d.Title }

//go:noinline
func (*counter) unnamedReceiver(n int, _ string, m int) int { return n + m }

//go:noinline
func unnamed(int, string, bool) {}

//go:noinline
func blanks(_ int, a string, _ float64, _ []int, b int) int { return b }

//go:noinline
func takesFunc(f func(int) int, n int) int { return f(n) }

//go:noinline
func capturing(name string, step int, total *int) func(int) int {
	return func(n int) int {
		*total += step * n
		sink += len(name)
		return *total
	}
}

//go:noinline
func byReference(start int) (func(int) int, func() int) {
	return func(n int) int { start += n; return start }, func() int { return start }
}

func init() {
	cases = append(cases, func(i int) {
		p, q := point{i, 2 * i}, point{-1, 100}
		r := p.plus(q)
		tell("point.plus", values{"p.X": p.X, "p.Y": p.Y, "q.X": q.X, "q.Y": q.Y}, values{"retval.X": r.X, "retval.Y": r.Y})
	}, func(i int) {
		c := &counter{"clicks"[i:], 10 * i}
		keep = append(keep, c)
		before := c.Total
		r := c.add(i + 1)
		tell("(*counter).add", values{"c.Name": c.Name, "c.Total": before, "n": i + 1}, values{"retval": r, "c.Total": r})
	}, func(i int) {
		d := &derived{"book"[i:], &base{3 * i}, point{i, i + 1}}
		keep = append(keep, d)
		before := d.Depth
		r := d.deeper(i)
		tell("(*base).deeper", values{"b.Depth": before, "by": i}, values{"retval": r, "b.Depth": r})
		tell("(*derived).title", values{"d.Title": d.Title, "d.Depth": d.Depth, "d.base.Depth": d.Depth, "d.X": i,
			"d.Y": i + 1, "n": i},
			values{"retval": d.title(i)})
	}, func(i int) {
		c := &counter{"value", i}
		keep = append(keep, c)
		f := c.add
		r := takesFunc(f, 7+i)
		tell("takesFunc", values{"f": pointer(*(*unsafe.Pointer)(unsafe.Pointer(&f))), "n": 7 + i}, values{"retval": r})
		tell("(*counter).add-fm", values{"n": 7 + i}, values{"retval": r})
		tell("(*counter).add", values{"c.Name": "value", "c.Total": i, "n": 7 + i}, values{"retval": r, "c.Total": r})
	}, func(i int) {
		c := &counter{"receiver", i}
		tell("(*counter).unnamedReceiver", values{"n": i, "m": 30 + i}, values{"retval": c.unnamedReceiver(i, "blank",
			30+i)})
	}, func(i int) {
		unnamed(80+i, "unnamed", i == 1)
		tell("unnamed", values{}, nil)
	}, func(i int) {
		tell("blanks", values{"a": "named"[i:], "b": 90 + i}, values{"retval": blanks(1, "named"[i:], 2.5, nil, 90+i)})
	}, func(i int) {
		total := 1000 * i
		f := capturing("captured"[i:], i+2, &total)
		before := total
		r := f(5 + i)
		tell("capturing", values{"name": "captured"[i:], "step": i + 2, "*total": before}, nil)
		tell("capturing.func1", values{"n": 5 + i, "step": i + 2, "name": "captured"[i:], "*total": before},
			values{"retval": r, "*total": r})
	}, func(i int) {
		f, get := byReference(i)
		before := get()
		r := f(25)
		tell("byReference.func1", values{"n": 25, "start": before}, values{"retval": r, "start": get()})
		tell("byReference", values{"start": i}, nil)
	})
}

// --- results -------------------------------------------------------------------------------------------------------

//go:noinline
func namedResults(n int) (half int, odd bool, err error) {
	if n < 0 {
		return 0, false, errors.New("negative")
	}
	return n / 2, n%2 == 1, nil
}

//go:noinline
func severalResults(s string) (string, int, []byte) { return s + "!", len(s), []byte(s) }

//go:noinline
func valueOrError(n int) (int, error) {
	if n%2 == 1 {
		return -1, fmt.Errorf("odd: %w", errors.New("one"))
	}
	return n, nil
}

//go:noinline
func stackResults(n int) (b big, last int) { b.A, b.J, last = n, -n, n+1; return }

//go:noinline
func throughPointer(args point, reply *measure) error {
	reply.N, reply.Value = args.X*args.Y, 0.5
	return nil
}

//go:noinline
func floatResult(n int) (float64, int) { return float64(n) / 4, n }

//go:noinline
func noResult(n int) { sink += n }

func init() {
	cases = append(cases, func(i int) {
		half, odd, err := namedResults(2*i - 1)
		tell("namedResults", values{"n": 2*i - 1}, values{"half": half, "odd": odd, "err": failure(err)})
	}, func(i int) {
		s, n, _ := severalResults("several"[i:])
		tell("severalResults", values{"s": "several"[i:]}, values{"ret0:gostr": s, "ret2": n, "ret4": n})
	}, func(i int) {
		n, err := valueOrError(i)
		tell("valueOrError", values{"n": i}, values{"ret0:s64": n, "ret1:error": failure(err)})
	}, func(i int) {
		b, last := stackResults(i)
		tell("stackResults", values{"n": i}, values{"b.A": b.A, "b.C": 0, "b.J": b.J, "last": last})
	}, func(i int) {
		reply := new(measure)
		keep = append(keep, reply)
		err := throughPointer(point{10, 20 + i}, reply)
		tell("throughPointer", values{"args.X": 10, "args.Y": 20 + i, "reply.N": 0},
			values{"reply.N": reply.N, "reply.Value": reply.Value, "retval": failure(err)})
	}, func(i int) {
		_, n := floatResult(i)
		tell("floatResult", values{"n": i}, values{"n": n})
	}, func(i int) {
		noResult(i)
		tell("noResult", values{"n": i}, nil)
	})
}

func main() {
	truth.Ready("signatures")
	for i := 0; i < 3; i++ {
		for _, call := range cases {
			call(i)
		}
	}
	truth.Print("signatures", map[string]interface{}{"values": all})
	if len(keep) == 0 {
		panic(sink)
	}
}
