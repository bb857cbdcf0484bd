package seal

import (
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

func newSigner(t testing.TB) Signer {
	t.Helper()
	s, err := LoadSigner(filepath.Join(t.TempDir(), "state", "signing.key"))
	btrfstest.Check(t, err)
	return s
}

func TestTheStockProgramVerifiesSignatures(t *testing.T) {
	t.Parallel()
	s, dir := newSigner(t), t.TempDir()
	content := []byte("content\n")
	file := filepath.Join(dir, "file")
	btrfstest.Check(t, os.WriteFile(file, content, 0o600))
	btrfstest.Check(t, os.WriteFile(file+".minisig", s.Sign(content, "home/20261130-010000"), 0o600))
	got, err := run(t, nil, "minisign", "-Vm", file, "-P", s.PublicKey())
	if err != nil || !strings.Contains(got, "Trusted comment: home/20261130-010000") {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := run(t, nil, "minisign", "-Vm", file, "-P", newSigner(t).PublicKey()); err == nil {
		t.Error("another key verifies it")
	}
	btrfstest.Check(t, os.WriteFile(file, []byte("contents\n"), 0o600))
	if _, err := run(t, nil, "minisign", "-Vm", file, "-P", s.PublicKey()); err == nil {
		t.Error("another content is verified")
	}
}

func TestSignaturesOfTheStockProgramAreVerified(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, key, public := filepath.Join(dir, "file"), filepath.Join(dir, "key"), filepath.Join(dir, "key.pub")
	btrfstest.Check(t, os.WriteFile(file, []byte("content\n"), 0o600))
	_, err := run(t, nil, "minisign", "-G", "-W", "-p", public, "-s", key)
	btrfstest.Check(t, err)
	_, err = run(t, nil, "minisign", "-S", "-H", "-m", file, "-s", key, "-t", "by hand")
	btrfstest.Check(t, err)
	btrfstest.Check(t, Verify(strings.Split(read(t, public), "\n")[1], []byte("content\n"), []byte(read(t, file+".minisig"))))
}

func TestEachFlippedBitOfASignatureIsNoticed(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	content := []byte("content")
	signature := s.Sign(content, "comment")
	btrfstest.Check(t, Verify(s.PublicKey(), content, signature))
	untrusted := len(strings.Split(string(signature), "\n")[0])
	for n := range signature {
		other := append([]byte(nil), signature...)
		other[n] ^= 1
		if err := Verify(s.PublicKey(), content, other); err == nil && n > untrusted && n < len(signature)-1 && !sameBase64(signature[n], other[n]) {
			// the number of the key is not signed, and only tells which key to take
			if id := signerID(other); id != nil && string(id) != string(signerID(signature)) {
				continue
			}
			t.Errorf("byte %d: %q for %q", n, other[n], signature[n])
		}
	}
	for _, other := range [][]byte{nil, []byte("\n\n\n\n"), signature[:50], []byte(strings.Replace(string(signature), "comment: comment", "comment: else", 1))} {
		if err := Verify(s.PublicKey(), content, other); !errors.Is(err, ErrBadSignature) {
			t.Errorf("%q: %v", other, err)
		}
	}
}

// signerID gives the number of the key that is said to have signed, nil if that is no signature.
func signerID(signature []byte) []byte {
	lines := strings.Split(string(signature), "\n")
	if len(lines) < 2 {
		return nil
	}
	signed, err := base64.StdEncoding.DecodeString(lines[1])
	if err != nil || len(signed) != signedSize {
		return nil
	}
	return signed[len(algSigned) : len(algSigned)+keyIDSize]
}

// sameBase64 tells that two characters are no data.
func sameBase64(a, b byte) bool { return a == '\n' || b == '\n' || a == '=' || b == '=' }

func TestTheKeyThatSignsIsMadeOnceAndForThisUserOnly(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state", "signing.key")
	var keys sync.Map
	var runs sync.WaitGroup
	for range 20 {
		runs.Go(func() {
			s, err := LoadSigner(path)
			if err != nil {
				t.Error(err)
				return
			}
			keys.Store(s.PublicKey(), true)
		})
	}
	runs.Wait()
	n := 0
	keys.Range(func(any, any) bool { n++; return true })
	info, err := os.Stat(path)
	btrfstest.Check(t, err)
	if entries, err := os.ReadDir(filepath.Dir(path)); n != 1 || info.Mode() != 0o600 || err != nil || len(entries) != 1 {
		t.Errorf("%d keys, %v, %v, %v", n, info.Mode(), entries, err)
	}
	btrfstest.Check(t, os.Chmod(path, 0o644))
	if _, err := LoadSigner(path); err == nil || !strings.Contains(hint.Of(err), "chmod 600") {
		t.Errorf("%v (%s)", err, hint.Of(err))
	}
	btrfstest.Check(t, os.Chmod(path, 0o600))
	btrfstest.Check(t, os.Truncate(path, 20))
	if _, err := LoadSigner(path); err == nil || !strings.Contains(err.Error(), "is damaged") || hint.Of(err) == "" {
		t.Errorf("%v", err)
	}
}

func TestOnlyKnownSignersCount(t *testing.T) {
	t.Parallel()
	own, other, foreign := newSigner(t), newSigner(t), newSigner(t)
	path := filepath.Join(t.TempDir(), "state", "signers")
	signers, err := ReadSigners(path, own)
	btrfstest.Check(t, err)
	content := []byte("content")
	if signers.Trusts(other.PublicKey()) || !signers.Trusts(own.PublicKey()) {
		t.Error("before one is added, it counts, or the own one does not")
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading made a file: %v", err)
	}
	btrfstest.Check(t, signers.Add(other.PublicKey(), "the old\nlaptop "))
	btrfstest.Check(t, signers.Add(other.PublicKey(), "again"))
	btrfstest.Check(t, signers.Add(own.PublicKey(), "myself"))
	signers, err = ReadSigners(path, own)
	btrfstest.Check(t, err)
	if all := signers.All(); len(all) != 2 || all[0].Key != own.PublicKey() || all[1] != (KnownSigner{other.PublicKey(), "the old laptop"}) {
		t.Errorf("%+v", all)
	}
	for _, s := range []Signer{own, other} {
		if err := Verify(s.PublicKey(), content, s.Sign(content, "")); err != nil || !signers.Trusts(s.PublicKey()) {
			t.Errorf("%v", err)
		}
		if err := Verify(s.PublicKey(), []byte("else"), s.Sign(content, "")); !errors.Is(err, ErrBadSignature) {
			t.Errorf("%v", err)
		}
	}
	forged := strings.Split(string(foreign.Sign(content, "")), "\n")
	real := strings.Split(string(own.Sign([]byte("real"), "")), "\n")
	for _, signature := range [][]byte{nil, []byte("a\nb"), []byte(strings.Join([]string{real[0], real[1], forged[2], forged[3]}, "\n"))} {
		if err := Verify(own.PublicKey(), content, signature); !errors.Is(err, ErrBadSignature) {
			t.Errorf("%q: %v", signature, err)
		}
	}
	if err := Verify(own.PublicKey(), content, foreign.Sign(content, "")); !errors.Is(err, ErrBadSignature) || signers.Trusts(foreign.PublicKey()) {
		t.Errorf("%v", err)
	}
	if err := signers.Add("no key", ""); err == nil {
		t.Error("no key was added")
	}
	btrfstest.Check(t, os.WriteFile(path, []byte("\n# mine\nRW\n"), 0o600))
	if _, err := ReadSigners(path); err == nil || !strings.Contains(err.Error(), "signers, line 3") || hint.Of(err) == "" {
		t.Errorf("%v", err)
	}
}

func TestAFileThatExistsIsNeverReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	btrfstest.Check(t, WriteNew(path, []byte("one"), 0o600))
	if err := WriteNew(path, []byte("two"), 0o600); !errors.Is(err, fs.ErrExist) || read(t, path) != "one" {
		t.Errorf("%v, %q", err, read(t, path))
	}
	if err := WriteNew(filepath.Join(dir, "none", "key"), []byte("two"), 0o600); err == nil {
		t.Error("written into no directory")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left %v, %v", entries, err)
	}
}
