// SPDX-License-Identifier: BSD-2-Clause

//go:build go1.18
// +build go1.18

package main

import "unsafe"

type number interface{ ~int | ~int32 | ~float64 }

type stack[T any] struct {
	Name  string
	Items []T
}

type pair[K comparable, V any] struct {
	Key   K
	Value V
}

//go:noinline
func largest[T number](a, b T, n int) T {
	if a > b {
		return a
	}
	return b
}

//go:noinline
func firstOf[T any](v []T, name string) T { return v[0] }

//go:noinline
func (s *stack[T]) push(item T, n int) int { s.Items = append(s.Items, item); return len(s.Items) }

//go:noinline
func (p pair[K, V]) value(n int) V { return p.Value }

func init() {
	ints, texts, pointers := &stack[int]{Name: "ints"}, &stack[string]{Name: "texts"}, &stack[*item]{Name: "pointers"}
	keep = append(keep, ints, texts, pointers)
	cases = append(cases, func(i int) {
		tell("largest", values{"a": -i, "b": -1, "n": i}, values{"retval": largest(-i, -1, i)})
		tell("largest", values{"a": -i, "b": -1, "n": 10 + i}, values{"retval": largest(int32(-i), -1, 10+i)})
		f := float64(i) + 0.5
		tell("largest", values{"a": inRegister(f), "b": inRegister(1.25), "n": 20 + i},
			values{"retval": inRegister(largest(f, 1.25, 20+i))})
	}, func(i int) {
		tell("firstOf", values{"v[0]": i, "len(v)": 2, "name": "ints"}, values{"retval": firstOf([]int{i, 1}, "ints")})
		tell("firstOf", values{"v[0]": "x"[:i%2], "len(v)": 1, "name": "texts"},
			values{"retval": firstOf([]string{"x"[:i%2]}, "texts")})
	}, func(i int) {
		tell("(*stack).push", values{"s.Name": "ints", "len(s.Items)": i, "item": 100 + i, "n": i},
			values{"retval": ints.push(100+i, i), "s.Items[0]": 100})
		tell("(*stack).push", values{"s.Name": "texts", "len(s.Items)": i, "item": "abc"[i:], "n": i},
			values{"retval": texts.push("abc"[i:], i), "s.Items[0]": "abc"})
		tell("(*stack).push", values{"s.Name": "pointers", "len(s.Items)": i, "item": pointer(unsafe.Pointer(items[i])),
			"n": i},
			values{"retval": pointers.push(items[i], i), "s.Items[0]": pointer(unsafe.Pointer(items[0]))})
	}, func(i int) {
		p := pair[string, int]{"key"[i:], -i}
		tell("pair.value", values{"p.Key": p.Key, "p.Value": p.Value, "n": 40 + i}, values{"retval": p.value(40 + i)})
		q := pair[int, point]{i, point{1, i}}
		r := q.value(50 + i)
		tell("pair.value", values{"p.Key": i, "p.Value": values{"X": 1, "Y": i}, "n": 50 + i},
			values{"retval": values{"X": r.X, "Y": r.Y}})
	})
}
