package model

// pool is a slice that grows without being copied.
type pool[T any] struct {
	chunks [][]T
	n      int32
}

const chunk = 1 << 16

func (p *pool[T]) add(v T) {
	if p.n%chunk == 0 {
		p.chunks = append(p.chunks, make([]T, chunk))
	}
	*p.at(p.n) = v
	p.n++
}

func (p *pool[T]) at(i int32) *T { return &p.chunks[i/chunk][i%chunk] }

// set finds the numbers of packed states, which are kept elsewhere.
type set struct {
	slots []int32 // the number + 1 of the state there, 0: free
	n     int
}

// find is the number of state p among all, or else a slot for it, by which it is to be put
// in at once.
func (s *set) find(p packed, all *pool[packed]) (number int32, slot uint64, known bool) {
	if 3*s.n >= 2*len(s.slots) {
		s.grow(all)
	}
	mask := uint64(len(s.slots) - 1)
	for slot = p.hash() & mask; s.slots[slot] != 0; slot = (slot + 1) & mask {
		if number = s.slots[slot] - 1; *all.at(number) == p {
			return number, slot, true
		}
	}
	return 0, slot, false
}

func (s *set) put(slot uint64, number int32) {
	s.slots[slot] = number + 1
	s.n++
}

// grow makes room for twice as many.
func (s *set) grow(all *pool[packed]) {
	s.slots = make([]int32, max(1024, 2*len(s.slots)))
	mask := uint64(len(s.slots) - 1)
	for i := range all.n {
		slot := all.at(i).hash() & mask
		for s.slots[slot] != 0 {
			slot = (slot + 1) & mask
		}
		s.slots[slot] = i + 1
	}
}
