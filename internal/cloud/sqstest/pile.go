package sqstest

import "container/heap"

// pile is a heap that can be taken apart anywhere: its items know their place.
type pile[T any] struct {
	items  []T
	before func(a, b T) bool
	place  func(item T) *int
}

func (p *pile[T]) Len() int           { return len(p.items) }
func (p *pile[T]) Less(i, j int) bool { return p.before(p.items[i], p.items[j]) }

func (p *pile[T]) Swap(i, j int) {
	p.items[i], p.items[j] = p.items[j], p.items[i]
	*p.place(p.items[i]), *p.place(p.items[j]) = i, j
}

// Push is for container/heap.
func (p *pile[T]) Push(item any) {
	*p.place(item.(T)) = len(p.items)
	p.items = append(p.items, item.(T))
}

// Pop is for container/heap.
func (p *pile[T]) Pop() any {
	last := len(p.items) - 1
	item := p.items[last]
	var none T
	p.items[last] = none
	p.items = p.items[:last]
	return item
}

func (p *pile[T]) add(item T)    { heap.Push(p, item) }
func (p *pile[T]) remove(item T) { heap.Remove(p, *p.place(item)) }

// first returns the item before all others, which has to exist.
func (p *pile[T]) first() T { return p.items[0] }
