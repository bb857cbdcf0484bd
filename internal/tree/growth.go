package tree

import (
	"context"

	"github.com/btrfs-backup/btrfs-backup/internal/tree/grow"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/state"
	"github.com/btrfs-backup/btrfs-backup/internal/tree/survey"
)

// A Growth tells of what a partial copy is to be made.
type Growth struct {
	Name    string // of the backup to be, which Begin began, and of which nothing was copied yet
	Base    string // a backup, which is complete
	Changes grow.Changes
}

// Grow makes all of a partial copy but what changed since the base: that is to be copied, and Finish to be told that it Grew. It fails if
// somebody changed the base. After an error, the partial copy is as it was before, unless the context ended.
func (f *Folder) Grow(ctx context.Context, g Growth) error {
	into, err := f.openPartial(g.Name)
	if err != nil {
		return err
	}
	defer into.Close()
	if err := checkName(g.Base); err != nil {
		return err
	}
	return grow.Into(ctx, f.dir, g.Name, g.Base, into, g.Changes)
}

// surveyGrown describes a partial copy that grew.
func (b *making) surveyGrown(ctx context.Context, draft *state.Draft) (found survey.Findings, err error) {
	taken, anew, err := grow.Known(b.dir, b.Name)
	if err != nil {
		return found, err
	}
	defer taken.Close()
	return survey.Grown(ctx, b.root, survey.Known{Manifests: taken.Readers(), Anew: anew}, b.surveyOptions(nil), draft)
}
