package bus

import (
	"context"
	"slices"
)

// Known says whether somebody owns name on the bus at this moment or could be started
// for it. It ends like Call: with ctx, or after 25 s for each of its two questions.
func (b *Bus) Known(ctx context.Context, name string) (bool, error) {
	reply, err := b.Call(ctx, driver("NameHasOwner"), name)
	if err != nil {
		return false, err
	}
	if owned, err := Value[bool](reply, 0); owned || err != nil {
		return owned, err
	}
	reply, err = b.Call(ctx, driver("ListActivatableNames"))
	if err != nil {
		return false, err
	}
	names, err := Value[[]string](reply, 0)
	return slices.Contains(names, name), err
}
