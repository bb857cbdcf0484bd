package offsite

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

func TestOnlyPermissionsAreNoFailure(t *testing.T) {
	refused, other := fmt.Errorf("deleting x: %w", fs.ErrPermission), errors.New("deleting y: gone")
	for _, test := range []struct {
		err  error
		want bool
	}{
		{nil, false}, {refused, true}, {other, false}, {errors.Join(refused, refused), true}, {errors.Join(refused, other), false},
		{errors.Join(errors.Join(refused), refused), true}, {errors.Join(refused, errors.Join(other)), false},
	} {
		if got := isOnlyRefused(test.err); got != test.want {
			t.Errorf("%v: %t", test.err, got)
		}
	}
}
