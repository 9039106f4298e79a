// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

type Small struct {
	a uint8
	b string
}
type Args struct{ A, B int }
type T struct{ n int }
type Arr2 struct{ x [2]uintptr }
type One struct{ x [1]*int }
type Big struct{ a, b, c, d, e, f, g, h, i, j int }
type Fl struct {
	f float64
	i int32
	g float32
}

//go:noinline
func F01(a int, b string, c []byte, d error) (int, error) {
	fmt.Fprintln(os.Stderr, a, b, c, d)
	return a, d
}

//go:noinline
func F02(_ int, a string, _ float64, b int, _ Small) string { fmt.Fprintln(os.Stderr, a, b); return a }

//go:noinline
func F03(int, string, float32) {}

//go:noinline
func F04(a Small, f float64, g float32, b Fl) Fl { fmt.Fprintln(os.Stderr, a, f, g, b); return b }

//go:noinline
func F05(a, b, c, d, e, f, g string, h int) (Big, int) {
	fmt.Fprintln(os.Stderr, a, b, c, d, e, f, g, h)
	return Big{}, h
}

//go:noinline
func F06(a Arr2, b One, c Big, d struct{}, e [0]int, f int) (_ int, err error) {
	fmt.Fprintln(os.Stderr, a, b, c, d, e, f)
	return 1, nil
}

//go:noinline
func F07(x int, y string) *int { p := &x; fmt.Fprintln(os.Stderr, y); return p }

//go:noinline
func (t *T) M(ctx context.Context, args Args, reply *int) error {
	*reply = args.A * t.n
	return ctx.Err()
}

//go:noinline
func (t T) V(d time.Duration, tt time.Time, m map[string]int, c chan int, f func(int) int) time.Time {
	fmt.Fprintln(os.Stderr, t, d, tt, m, c, f(1))
	return tt
}

//go:noinline
func F08(xs ...interface{}) complex128 { fmt.Fprintln(os.Stderr, xs...); return 1 }

//go:noinline
func F09(c complex64, b bool, i8 int8, r rune, u uint16) (complex64, bool) {
	fmt.Fprintln(os.Stderr, c, b, i8, r, u)
	return c, b
}

//go:noinline
func mk(a int, s string) func(int) int {
	n := 0
	return func(x int) int { n += x; fmt.Fprintln(os.Stderr, s); return a + n }
}

//go:noinline
func unusedRes(a int) (x, y int, z string) { return a, a, "" }

type E struct{ *T }

func main() {
	r := 0
	F01(1, "a", []byte{1}, errors.New("x"))
	F02(1, "a", 1, 2, Small{})
	F03(1, "", 1)
	F04(Small{}, 1, 2, Fl{})
	F05("a", "b", "c", "d", "e", "f", "g", 8)
	F06(Arr2{}, One{}, Big{}, struct{}{}, [0]int{}, 6)
	F07(1, "2")
	t := &T{1}
	f := t.M
	F08(1, f, t.V)
	f(context.Background(), Args{1, 2}, &r)
	t.V(1, time.Now(), nil, nil, func(x int) int { return x })
	F09(1, true, 2, 'x', 3)
	mk(1, "s")(2)
	unusedRes(1)
	g := E.M
	g(E{t}, context.Background(), Args{}, &r)
	more()
}
