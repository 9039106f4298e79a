// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"fmt"
	"os"
)

type Stack[X any] struct{ items []X }

//go:noinline
func (s *Stack[X]) Push(x X, _ int, n int) int { s.items = append(s.items, x); return n }

//go:noinline
func (s Stack[X]) Len(n int) int { return n + len(s.items) }

//go:noinline
func Sum[X int | float64](xs []X, y X) X {
	for _, x := range xs {
		y += x
	}
	fmt.Fprintln(os.Stderr, y)
	return y
}

//go:noinline
func Gen[X any](x X, n int) func(int) X {
	return func(m int) X { fmt.Fprintln(os.Stderr, m, n); return x }
}

func more() {
	s := &Stack[string]{}
	s.Push("a", 1, 2)
	s2 := &Stack[*int]{}
	s2.Push(nil, 1, 2)
	s.Len(1)
	Sum([]int{1}, 2)
	Sum([]float64{1}, 2)
	Gen("x", 1)(2)
	Gen(3, 1)(2)
}
