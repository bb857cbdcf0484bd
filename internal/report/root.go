package report

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/transport"
)

// WithoutRoot makes one error of those that all come from a lack of privilege. The hint has the arguments of the program.
func WithoutRoot(errs []error, args []string) []error {
	allowed := func(err error) bool { return !errors.Is(err, fs.ErrPermission) }
	if os.Geteuid() == 0 || len(errs) == 0 || slices.ContainsFunc(errs, allowed) {
		return errs
	}
	err, more := errs[0], len(errs)-1
	if more == 0 && hint.Of(err) != "" {
		return errs
	}
	if more > 0 {
		err = fmt.Errorf("%w; permission was denied %d more times", err, more)
	}
	return []error{hint.Newf(err, `sudo btrfs-backup %s (without root: see "Without root" in btrfs-backup(8))`, transport.Quote(args...))}
}
