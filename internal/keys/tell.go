package keys

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/seal"
)

// tellNew tells what was made, and what is to be done with it.
func (c Conversation) tellNew(r Request, all []made, recipients seal.Recipients) {
	for _, k := range all {
		if k.file != "" {
			c.Tell(fmt.Sprintf("wrote %s: the %s (secret)", k.file, k.name))
		}
	}
	c.Tell(fmt.Sprintf("wrote %s: backups are encrypted for %s", r.Recipients, count(len(recipients))))
	c.Tell("")
	if r.Output != "" {
		c.Tell("Making backups needs no secret key. Keep the file away from this machine: on a")
		c.Tell("USB stick, or on another machine. Whoever steals this machine with the key can")
		c.Tell("read the backups. What was deleted from a disk may still be on it, and in")
		c.Tell("snapshots: if the file is on a disk of this machine, make another key on a")
		c.Tell("stick in its place.")
	}
	if r.Paper != "" {
		c.Tell("")
		c.Tell("Print " + r.Paper + ", then delete it, and lock the paper away.")
	}
	c.Tell("")
	if len(recipients) == 1 {
		c.Tell("If this key is lost, the backups are lost. Nobody can help.")
	} else {
		c.Tell("If " + allOf(len(recipients)) + " keys are lost, the backups are lost. Nobody can help.")
	}
	c.Tell("Try them now, and once a year:")
	for _, k := range all {
		file := k.file
		if file == "" {
			file = seal.Typed + "   (to type the paper key)"
		}
		c.Tell("  btrfs-backup key test -i " + file)
	}
}

func count(keys int) string {
	if keys == 1 {
		return "this key only"
	}
	return fmt.Sprintf("%d keys", keys)
}

func allOf(keys int) string {
	if keys == 2 {
		return "both"
	}
	return fmt.Sprintf("all %d", keys)
}

// Test encrypts something for the recipients in a file, reads it with secret keys, and tells which of the recipients they are.
func (c Conversation) Test(file string, ids seal.Identities) error {
	recipients, err := seal.ReadRecipients(file)
	if err != nil {
		return err
	}
	canary, err := seal.Canary(recipients)
	if err != nil {
		return err
	}
	_, err = seal.TestCanary(canary, ids)
	if errors.Is(err, seal.ErrWrongIdentity) {
		return hint.New(fmt.Errorf("this secret key belongs to no public key in %s: it cannot read what is encrypted now", file),
			"`btrfs-backup key list` shows the public keys; older backups may have others")
	}
	if err != nil {
		return err
	}
	for _, r := range recipients.Matching(ids) {
		c.Tell(fmt.Sprintf("this is the %s (%s, line %d): it reads what is encrypted now", r, file, r.Line))
	}
	return nil
}

// TestIn reads what a store has for it with secret keys, and tells which of the recipients they are.
func (c Conversation) TestIn(store string, canary []byte, ids seal.Identities) error {
	matching, err := seal.TestCanary(canary, ids)
	if errors.Is(err, seal.ErrWrongIdentity) {
		return hint.New(fmt.Errorf("this secret key cannot read what is in %s", store), "try another key; there may be backups for other keys than when the store was made")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", store, err)
	}
	for _, r := range matching {
		c.Tell(fmt.Sprintf("this is the %s: it reads what is in %s", r, store))
	}
	return nil
}

// List tells the public keys in a file, and whose signatures count by the state of this machine.
func (c Conversation) List(file, state string) error {
	recipients, err := seal.ReadRecipients(file)
	if err != nil {
		return err
	}
	for _, r := range recipients {
		if r.Name != "" {
			c.Tell("# " + r.Name)
		}
		c.Tell(r.Text)
	}
	if _, err := seal.ReadSigner(filepath.Join(state, seal.SigningKeyFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // that of this machine is what is looked for
	}
	signers, _, err := seal.SignersIn(state)
	if err != nil {
		return err
	}
	for _, k := range signers.All() {
		c.Tell(fmt.Sprintf("# signatures count of %s %s", k.Key, k.Comment))
	}
	return recipients.Check(true)
}
