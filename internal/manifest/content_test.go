package manifest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A piece of a file is what is not zero.
type piece struct {
	at      int64
	content string
}

// newFile makes a file with holes, or with zeros in their place.
func newFile(t *testing.T, size int64, holes bool, pieces ...piece) (*os.File, Entry) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	must(t, err)
	t.Cleanup(func() { file.Close() })
	must(t, file.Truncate(size))
	if !holes {
		_, err := file.WriteAt(make([]byte, size), 0)
		must(t, err)
	}
	for _, p := range pieces {
		_, err := file.WriteAt([]byte(p.content), p.at)
		must(t, err)
	}
	must(t, file.Sync())
	var st unix.Stat_t
	must(t, unix.Fstat(int(file.Fd()), &st))
	return file, Describe("file", &st)
}

// contentOf gives the digest of a file, and how much of it was read.
func contentOf(t *testing.T, file *os.File, e Entry) (sum Digest, read int64) {
	t.Helper()
	sum, err := e.Content(t.Context(), int(file.Fd()), make([]byte, 64<<10), Watcher{Read: func(_ int64, content []byte) { read += int64(len(content)) }})
	must(t, err)
	return sum, read
}

const large = 40 << 20

func TestHolesAreNotRead(t *testing.T) {
	t.Parallel()
	file, e := newFile(t, 1<<30, true, piece{1 << 29, "data"}, piece{1<<30 - 3, "end"})
	if _, read := contentOf(t, file, e); !e.Sparse || read > 256<<10 {
		t.Errorf("sparse: %t, %d bytes are read", e.Sparse, read)
	}
}

func TestTheDigestOfASparseFileTellsItsContentAlone(t *testing.T) {
	t.Parallel()
	pieces := []piece{{5000, "a"}, {20 << 20, string(make([]byte, 4096)) + "b"}, {large - 1, "c"}}
	file, e := newFile(t, large, true, pieces...)
	want, _ := contentOf(t, file, e)
	if !e.Sparse {
		t.Fatal("it is not sparse")
	}
	dense, de := newFile(t, large, false, pieces...)
	if de.Sparse {
		t.Error("a file without holes is sparse")
	}
	whole, read := contentOf(t, dense, de)
	content, err := os.ReadFile(dense.Name())
	must(t, err)
	if whole != sha256.Sum256(content) || read != large {
		t.Errorf("%d bytes of a file without holes are read, or its SHA-256 is another one", read)
	}
	de.Sparse = true
	if got, _ := contentOf(t, dense, de); got != want {
		t.Error("the same content has another digest if its holes are zeros")
	}
	for name, other := range map[string][]piece{
		"another byte":   {{5000, "x"}, pieces[1], pieces[2]},
		"a byte less":    {pieces[1], pieces[2]},
		"a byte moved":   {{5001, "a"}, pieces[1], pieces[2]},
		"a block moved":  {{5000 + 4096, "a"}, pieces[1], pieces[2]},
		"nothing at all": nil,
	} {
		file, e := newFile(t, large, true, other...)
		if got, _ := contentOf(t, file, e); got == want {
			t.Errorf("%s: the digest is the same", name)
		}
	}
	file, e = newFile(t, large+4096, true, pieces...)
	if got, _ := contentOf(t, file, e); got == want {
		t.Error("another size: the digest is the same")
	}
}

func TestAFileThatChangesWhileItIsReadHasNoDigest(t *testing.T) {
	t.Parallel()
	for _, holes := range []bool{true, false} {
		for _, to := range []int64{large - 1, large + 1, 0} {
			file, e := newFile(t, large, holes, piece{0, "a"}, piece{large - 1, "c"})
			_, err := e.Content(t.Context(), int(file.Fd()), make([]byte, 64<<10), Watcher{Read: func(at int64, _ []byte) {
				if at == 0 {
					must(t, file.Truncate(to))
				}
			}})
			if !errors.Is(err, errChanges) {
				t.Errorf("holes %t, to %d: %v", holes, to, err)
			}
		}
	}
}

func TestTheDigestOfASparseFileIsNotTakenForASHA256(t *testing.T) {
	t.Parallel()
	e := Entry{Path: "file", Type: Regular, Size: 1 << 40, SHA256: Digest{1}, Sparse: true}
	if err := Sum(new(bytes.Buffer), e); err == nil {
		t.Error("sha256sum would get it")
	}
	line := string(appendEntry(nil, &e))
	if bytes.Contains([]byte(line), []byte("sha256digest")) {
		t.Error(line)
	}
	var got Entry
	must(t, new(Reader).parse([]byte(line[:len(line)-1]), &got))
	if got != e {
		t.Errorf("%+v, want %+v", got, e)
	}
}
