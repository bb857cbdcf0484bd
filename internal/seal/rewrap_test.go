package seal

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"filippo.io/age"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func TestARewrappedFileIsForTheNewKeysOnly(t *testing.T) {
	t.Parallel()
	old, daily, paper, rsa := newKey(t), newKey(t), newKey(t), sshKey(t, "rsa", "")
	plain := make([]byte, 300_000)
	_, _ = rand.NewChaCha8([32]byte{}).Read(plain)
	encrypted := encrypt(t, plain, recipientsOf(t, old.Recipient().String(), newKey(t).Recipient().String()))
	to := recipientsOf(t, daily.Recipient().String(), paper.Recipient().String(), read(t, rsa+".pub"))
	r, err := Rewrap(iotest.OneByteReader(bytes.NewReader(encrypted)), to, Identities{newKey(t), old})
	btrfstest.Check(t, err)
	rewrapped, err := io.ReadAll(r)
	btrfstest.Check(t, err)
	header, err := age.ExtractHeader(bytes.NewReader(encrypted))
	btrfstest.Check(t, err)
	if !bytes.HasSuffix(rewrapped, encrypted[len(header):]) {
		t.Error("the payload is another")
	}
	for _, key := range []string{daily.String(), paper.String(), read(t, rsa)} {
		if got, err := run(t, rewrapped, "age", "-d", "-i", keyFile(t, key)); err != nil || got != string(plain) {
			t.Errorf("%d of %d bytes, %v", len(got), len(plain), err)
		}
	}
	if got, err := run(t, rewrapped, "age", "-d", "-i", keyFile(t, old.String())); err == nil || got != "" {
		t.Errorf("the old key reads %d bytes", len(got))
	}
}

func TestOnlyWhoCanReadAFileRewrapsIt(t *testing.T) {
	t.Parallel()
	old, to := newKey(t), recipientsOf(t, newKey(t).Recipient().String())
	encrypted := encrypt(t, []byte("plain"), recipientsOf(t, old.Recipient().String()))
	hybrid, err := age.GenerateHybridIdentity()
	btrfstest.Check(t, err)
	broken := bytes.Replace(encrypted, []byte("--- "), []byte("--- A"), 1)
	mac := bytes.Clone(encrypted)
	at := bytes.Index(mac, []byte("--- ")) + len("--- ")
	mac[at] = 'A' + (mac[at]-'A'+1)%26
	for _, c := range []struct {
		file []byte
		to   Recipients
		ids  Identities
		want string
	}{
		{encrypted, to, nil, ErrNoIdentity.Error()},
		{encrypted, to, Identities{newKey(t)}, ErrWrongIdentity.Error()},
		{encrypted, nil, Identities{old}, "nobody to encrypt for"},
		{encrypted, append(recipientsOf(t, hybrid.Recipient().String()), to...), Identities{old}, "post-quantum"},
		{broken, to, Identities{old}, "malformed"},
		{mac, to, Identities{old}, "bad header MAC"},
		{encrypted[:50], to, Identities{old}, "EOF"},
		{nil, to, Identities{old}, "empty"},
	} {
		if _, err := Rewrap(bytes.NewReader(c.file), c.to, c.ids); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

func TestPostQuantumKeysCanBeRewrapped(t *testing.T) {
	t.Parallel()
	one, two := newKey(t), newKey(t)
	hybrid, err := age.GenerateHybridIdentity()
	btrfstest.Check(t, err)
	r, err := Rewrap(bytes.NewReader(encrypt(t, []byte("plain"), recipientsOf(t, one.Recipient().String()))),
		recipientsOf(t, hybrid.Recipient().String()), Identities{one})
	btrfstest.Check(t, err)
	r, err = Rewrap(r, recipientsOf(t, two.Recipient().String()), Identities{hybrid})
	btrfstest.Check(t, err)
	content, err := io.ReadAll(r)
	btrfstest.Check(t, err)
	if got := decrypt(t, content, Identities{two}); got != "plain" {
		t.Errorf("%q", got)
	}
}

func TestWhatBreaksWhileItIsRewrappedIsTold(t *testing.T) {
	t.Parallel()
	old := newKey(t)
	encrypted := encrypt(t, make([]byte, 200_000), recipientsOf(t, old.Recipient().String()))
	broken := io.MultiReader(bytes.NewReader(encrypted[:100_000]), iotest.ErrReader(os.ErrDeadlineExceeded))
	r, err := Rewrap(broken, recipientsOf(t, newKey(t).Recipient().String()), Identities{old})
	btrfstest.Check(t, err)
	if _, err := io.ReadAll(r); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
