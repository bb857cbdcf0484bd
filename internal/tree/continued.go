package tree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// continuedFile tells which directories go on with the history of others.
const continuedFile = "continued.json"

// A continuation tells that the backups of one directory count as those of another one.
type continuation struct {
	Of Origin `json:"of"`
	As Origin `json:"as"`
}

type continuations []continuation

// as gives the directory as which another one counts: itself, if none goes on with it, or several do.
func (c continuations) as(o Origin) Origin {
	at := o
	for range len(c) + 1 {
		var next []Origin
		for _, one := range c {
			if one.Of.Same(at) && !slices.ContainsFunc(next, one.As.Same) {
				next = append(next, one.As)
			}
		}
		if len(next) != 1 {
			return at
		}
		at = next[0]
	}
	return o // a circle
}

// without leaves out that something goes on with a directory.
func (c continuations) without(of Origin) continuations {
	return slices.DeleteFunc(slices.Clone(c), func(one continuation) bool { return one.Of.Same(of) })
}

// Continue records that a directory goes on with the history of others. A backup that is made of one of these later makes it a
// directory of its own again.
func (f *Folder) Continue(_ context.Context, source Origin, older []Origin) error {
	c, err := f.continued()
	if err != nil {
		return err
	}
	c = c.without(source)
	for _, o := range older {
		if last := c.as(o); !last.Same(source) {
			c = append(c.without(last), continuation{Of: last, As: source})
		}
	}
	return f.writeContinued(c)
}

func (f *Folder) writeContinued(c continuations) error {
	content, err := json.MarshalIndent(c, "", "    ")
	if err != nil {
		return fmt.Errorf("recording what %s continues: %w", f.dir.Name(), err)
	}
	return f.state.Write(continuedFile, append(content, '\n'))
}

// continued reads the record. One that cannot be understood is a damagedError.
func (f *Folder) continued() (c continuations, err error) {
	content, err := f.state.Read(continuedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(content, &c); err != nil {
		return nil, &damagedError{f.state.Path(continuedFile), err.Error()}
	}
	return c, nil
}

// resolved reads the record to know what counts as what: without it, nothing does, and less is deleted.
func (f *Folder) resolved() (continuations, error) {
	c, err := f.continued()
	if isDamaged(err) {
		f.log.Warn(err.Error())
		return nil, nil
	}
	return c, err
}

// endContinuation notes that a backup was made of a directory, which nothing goes on with then.
func (f *Folder) endContinuation(of Origin) error {
	c, err := f.resolved()
	if err != nil || len(c.without(of)) == len(c) {
		return err
	}
	return f.writeContinued(c.without(of))
}
