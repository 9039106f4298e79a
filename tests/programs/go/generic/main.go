// SPDX-License-Identifier: BSD-2-Clause

// generic calls functions with type parameters: generic [-n ROUNDS]
//
//	main.Sum            with int ROUNDS times, with float64 2 * ROUNDS times: two copies of the code
//	main.(*Stack).Push  with int ROUNDS times, with *point ROUNDS times, with *int ROUNDS times: two copies, since all
//	                    pointers share one
//
// The keys are the names without brackets, whatever the version of Go writes into them.
package main

import (
	"flag"

	"targets/truth"
)

type number interface {
	~int | ~float64
}

type point struct{ x, y int }

// Stack is a stack of anything.
type Stack[T any] struct {
	items []T
}

//go:noinline
func Sum[T number](values []T) T {
	var sum T
	for _, value := range values {
		sum += value
	}
	return sum
}

// Push puts an item on top and returns how many there are.
//
//go:noinline
func (s *Stack[T]) Push(item T) int {
	if len(s.items) == 100 {
		s.items = s.items[:0]
	}
	s.items = append(s.items, item)
	return len(s.items)
}

func main() {
	rounds := flag.Int("n", 997, "rounds")
	flag.Parse()
	truth.Ready("generic")

	var ints Stack[int]
	var points Stack[*point]
	var pointers Stack[*int]
	sum, push := truth.Of("main.Sum"), truth.Of("main.(*Stack).Push")
	called := func(count *truth.Count, call func()) {
		start := count.Enter()
		call()
		count.Leave(start)
	}
	for i := 0; i < *rounds; i++ {
		called(sum, func() { Sum([]int{i, 1, 2}) })
		called(sum, func() { Sum([]float64{1, 2}) })
		called(sum, func() { Sum([]float64{3, 4}) })
		called(push, func() { ints.Push(i) })
		called(push, func() { points.Push(&point{i, i}) })
		called(push, func() { pointers.Push(&i) })
	}
	truth.Print("generic", map[string]interface{}{
		"instances": map[string]int{
			"main.Sum[int]": *rounds, "main.Sum[float64]": 2 * *rounds,
			"main.(*Stack[int]).Push": *rounds, "main.(*Stack[*point]).Push": *rounds, "main.(*Stack[*int]).Push": *rounds,
		},
	})
}
