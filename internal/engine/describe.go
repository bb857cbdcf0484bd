package engine

import (
	"context"
	"sync"
)

// A Describer is a Destination that can write down what a backup holds, by which it is verified later.
type Describer interface {
	Describe(ctx context.Context, backup string) error
}

// A descriptions are made one after another, while further versions are saved.
type descriptions struct {
	making   sync.WaitGroup
	one      sync.Mutex // guards what follows, and is held while one is made
	failures []error
}

// describe has a backup described, if that is wanted and can be.
func (v *visit) describe(ctx context.Context, backup string) {
	d, ok := v.to.(Describer)
	if !ok || !v.Manifests {
		return
	}
	v.descriptions.making.Go(func() {
		v.descriptions.one.Lock()
		defer v.descriptions.one.Unlock()
		if ctx.Err() != nil { // which is told
			return
		}
		if err := d.Describe(ctx, backup); err != nil && ctx.Err() == nil {
			v.descriptions.failures = append(v.descriptions.failures, err)
		}
	})
}
