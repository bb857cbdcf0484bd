package bring

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// A program is what can be brought.
type program struct {
	content []byte
	sha     string
}

func newProgram(content []byte) *program {
	sum := sha256.Sum256(content)
	return &program{content, hex.EncodeToString(sum[:])}
}

// self is this program, also if the file that it was started from is gone.
var self = "/proc/self/exe"

func own() (*program, error) {
	content, err := os.ReadFile(self)
	if err != nil {
		return nil, fmt.Errorf("reading this program: %w", err)
	}
	return newProgram(cut(content)), nil
}

// foreign is the program for another CPU.
func foreign(dir, arch string) (*program, error) {
	file := filepath.Join(cmp.Or(dir, DefaultAgents), "btrfs-backup-linux-"+arch)
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hint.Newf(fmt.Errorf("the program for its CPU is missing: %s", file),
			"copy %s of a release to %s on this machine, or name another directory by --agents", filepath.Base(file), filepath.Dir(file))
	}
	if err != nil {
		return nil, err
	}
	return newProgram(content), nil
}

// architectures maps what uname(1) calls a CPU to what Go does.
var architectures = map[string]string{"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv8l": "arm", "riscv64": "riscv64"}

func (s *state) arch() (string, error) {
	if s.system != "Linux" {
		return "", fmt.Errorf("its system is %s, not Linux", s.system)
	}
	arch, ok := architectures[s.cpu]
	if !ok {
		return "", hint.New(fmt.Errorf("there is no program for its CPU, %s", s.cpu), elsewise)
	}
	return arch, nil
}

// cut removes from an ELF file what is not loaded to run it: symbols, debug information, the table of sections.
// elf(5) tells where the header names that table.
func cut(content []byte) []byte {
	file, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return content
	}
	var end uint64
	for _, p := range file.Progs {
		end = max(end, p.Off+p.Filesz)
	}
	if end > uint64(len(content)) {
		return content
	}
	short := bytes.Clone(content[:end])
	if file.Class == elf.ELFCLASS64 {
		clear(short[40:48]) // e_shoff
		clear(short[58:64]) // e_shentsize, e_shnum, e_shstrndx
	} else {
		clear(short[32:36])
		clear(short[46:52])
	}
	return short
}
