package model

// inOrder says whether the pause of a scope may change now. Who waits learns of each scope by
// a watch of its own, and so perhaps of a change before that of another which came earlier:
// where everybody was paused, it might believe for a moment that others could go, and leave
// the queue, as it may. The model has no such moment, so a walk does not bring it about.
func (r *replay) inOrder(scope int) bool {
	for m := range Machines {
		pc := r.state.Machine[m].PC
		paused, inTheWay := r.model.paused(r.state, m)
		if pc != Needing && pc != Queued && pc != First || !paused || inTheWay {
			continue
		}
		among := scope < Groups && r.model.in(m, scope)
		if scope == ofMachine(m) || among && r.state.Paused[ofAll] {
			return false
		}
	}
	return true
}
