// Package keys makes the keys of encrypted backups together with the user, and tries them.
//
// A secret key is shown on the terminal only, or written to the file that the user names; never to a stream of the program, a log, or
// the file of recipients. Until the user has shown that the paper key was copied, nothing is written.
package keys

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
)

// A Conversation is how the user is asked and told.
type Conversation struct {
	Ask  func(ctx context.Context, question string, secret bool) (string, error) // nil without a terminal
	Show func(text string) (hide func() error, err error)                        // on the terminal only
	Tell func(line string)
	Now  func() time.Time
}

// A Request is for new keys.
type Request struct {
	Output     string // the file of the daily key; "": none is made
	Paper      string // the file of the paper key; "": it is shown
	Recipients string // the file of public keys
	One        bool   // no paper key
	Add        bool   // the file of public keys may be there, and has more afterwards
}

// made is a key that was made.
type made struct {
	seal.Key
	name string
	file string // "": it was shown
}

// New makes keys and writes them.
func (c Conversation) New(ctx context.Context, r Request) error {
	before, err := c.check(r)
	if err != nil {
		return err
	}
	all, err := c.make(r)
	if err != nil {
		return err
	}
	content := addTo(before, all)
	recipients, err := seal.ParseRecipients(strings.NewReader(content))
	if err != nil {
		return fmt.Errorf("%s: %w", r.Recipients, err)
	}
	for _, k := range all {
		if k.file == "" {
			if err := c.copyOut(ctx, k); err != nil {
				return err
			}
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := write(r, all, content); err != nil {
		return fmt.Errorf("no key was kept, and a paper key that was copied is worth nothing: %w", err)
	}
	c.tellNew(r, all, recipients)
	return nil
}

// check refuses what cannot end well, and gives what the file of public keys holds.
func (c Conversation) check(r Request) (before string, err error) {
	if !r.One && r.Paper == "" && (c.Ask == nil || c.Show == nil) {
		return "", hint.New(errors.New("the paper key is shown once, to be copied by hand, and there is no terminal"),
			"start this on a terminal; or --paper FILE writes it to a file: print that, and delete it")
	}
	for _, file := range []string{r.Output, r.Paper} {
		if file == "" {
			continue
		}
		if _, err := os.Lstat(file); err == nil {
			return "", hint.New(fmt.Errorf("%s is there already, and a key is never written over anything", file), "name another file")
		}
		if err := probe(filepath.Dir(file)); err != nil {
			return "", hint.New(fmt.Errorf("the key cannot be written to %s: %w", file, err), "is the USB stick mounted?")
		}
	}
	content, err := os.ReadFile(r.Recipients)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(filepath.Dir(r.Recipients), 0o755); err != nil {
			return "", err
		}
		return "", probe(filepath.Dir(r.Recipients))
	case err != nil:
		return "", err
	case !r.Add:
		return "", hint.Newf(fmt.Errorf("%s has public keys already, for which backups are encrypted", r.Recipients),
			"--add adds new ones; to use only new ones, move that file away first")
	}
	if _, err := seal.ReadRecipients(r.Recipients); err != nil {
		return "", err
	}
	return string(content), probe(filepath.Dir(r.Recipients))
}

// probe fails if no file can be made in a directory.
func probe(dir string) error {
	file, err := os.CreateTemp(dir, ".btrfs-backup-probe.*")
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no directory %s", dir)
	}
	var named *fs.PathError
	if errors.As(err, &named) { // after the file, whose name says nothing
		err = named.Err
	}
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

// make makes the keys that are wanted.
func (c Conversation) make(r Request) (all []made, err error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	for _, kind := range []struct {
		name, file string
		wanted     bool
	}{{"daily key", r.Output, r.Output != ""}, {"paper key", r.Paper, !r.One}} {
		if !kind.wanted {
			continue
		}
		key, err := seal.NewKey()
		if err != nil {
			return nil, err
		}
		all = append(all, made{key, fmt.Sprintf("%s of %s, %s", kind.name, host, c.Now().Format(time.DateOnly)), kind.file})
	}
	return all, nil
}

// addTo gives the content of the file of public keys.
func addTo(before string, all []made) string {
	if before == "" {
		before = "# The public keys for which btrfs-backup encrypts. They are no secret, but whoever can\n" +
			"# add one reads later backups. The line above a key is its name.\n"
	}
	for _, k := range all {
		before = strings.TrimRight(before, "\n") + fmt.Sprintf("\n\n# %s\n%s\n", k.name, k.Public)
	}
	return before
}

// write writes the files of the keys, and then the one that makes them count. If it fails, none is left.
func write(r Request, all []made, recipients string) (err error) {
	var written []string
	defer func() {
		if err == nil {
			return
		}
		for _, file := range written {
			err = errors.Join(err, os.Remove(file))
		}
	}()
	for _, k := range all {
		if k.file == "" {
			continue
		}
		content := fmt.Sprintf("# %s\n# public key: %s\n%s\n", k.name, k.Public, k.Secret)
		if err := seal.WriteNew(k.file, []byte(content), 0o600); err != nil {
			return err
		}
		written = append(written, k.file)
	}
	if r.Add {
		return renameio.WriteFile(r.Recipients, []byte(recipients), 0o644, renameio.IgnoreUmask())
	}
	return seal.WriteNew(r.Recipients, []byte(recipients), 0o644)
}

const paper = `PAPER KEY (%s)

Whoever has this key can read the backups. Copy it by hand, and keep the paper
away from this machine, so that neither fire nor thieves get both. To print it,
press Ctrl-C, and begin again with --paper FILE.


        AGE-SECRET-KEY-1

        %s
        %s


Blanks, dashes, and upper or lower case do not matter. The letters B, I and O
and the digit 1 are in no group: what looks like them is 8, L or 0.

The key is shown only now. It is hidden when you press Enter, and then you are
asked for the last group, to see that you have it. Ctrl-C keeps nothing.

`

// copyOut shows a key until the user has copied it.
func (c Conversation) copyOut(ctx context.Context, k made) error {
	groups := seal.Groups(k.Secret)
	half := (len(groups) + 1) / 2
	page := fmt.Sprintf(paper, k.name, strings.Join(groups[:half], "  "), strings.Join(groups[half:], "  "))
	for question := "The last group of the paper key, from your copy:"; ; {
		if err := c.show(ctx, page); err != nil {
			return givenUp(err)
		}
		answer, err := c.Ask(ctx, question, false)
		if err != nil {
			return givenUp(err)
		}
		if seal.SameGroup(groups[len(groups)-1], answer) {
			return nil
		}
		if _, err := c.Ask(ctx, "That is not the last group. Press Enter to see the key again:", false); err != nil {
			return givenUp(err)
		}
	}
}

// show shows a page until Enter is pressed.
func (c Conversation) show(ctx context.Context, page string) error {
	hide, err := c.Show(page)
	if err != nil {
		return err
	}
	_, err = c.Ask(ctx, "Press Enter when you have copied it:", false)
	return errors.Join(err, hide())
}

func givenUp(err error) error {
	if errors.Is(err, io.EOF) {
		return hint.New(errors.New("the paper key was not copied: no key was kept"), "begin again when you have pen and paper")
	}
	return err
}
