package manifest

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// An Xattr is an extended attribute of a file.
type Xattr struct {
	Name  string
	Value []byte
}

// XattrDigest is a digest of attributes, whose order does not matter: the SHA-256 of name and value of each, sorted by name, each
// after its length (32 bits, big endian). It is zero if there are none.
//
// Attributes that say nothing about the file itself do not count:
//   - system.*, but for the POSIX ACLs: what a filesystem tells of itself, like system.nfs4_acl, which every file on NFS has.
//   - security.evm: a seal that the kernel makes for the inode, different for each copy.
func XattrDigest(xattrs []Xattr) Digest {
	sorted := slices.DeleteFunc(slices.Clone(xattrs), func(x Xattr) bool { return !counts(x.Name) })
	if len(sorted) == 0 {
		return Digest{}
	}
	slices.SortFunc(sorted, func(a, b Xattr) int { return cmp.Compare(a.Name, b.Name) })
	var b []byte
	for _, x := range sorted {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(x.Name))), x.Name...)
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(x.Value))), x.Value...)
	}
	return sha256.Sum256(b)
}

func counts(name string) bool {
	switch name {
	case "system.posix_acl_access", "system.posix_acl_default":
		return true
	case "security.evm":
		return false
	}
	return !strings.HasPrefix(name, "system.")
}

// Xattrs gives the digest of the extended attributes of a file; see ListXattrs.
func Xattrs(path string) (Digest, error) {
	xattrs, err := ListXattrs(path)
	return XattrDigest(xattrs), err
}

// ListXattrs gives the extended attributes of a file that count, of a symlink itself if it is one. On a filesystem without such
// attributes there are none. Who may not see trusted.* gets the others.
func ListXattrs(path string) ([]Xattr, error) {
	names, err := readAll(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing extended attributes: %w", err)
	}
	if len(names) == 0 {
		return nil, nil
	}
	var xattrs []Xattr
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if !counts(name) {
			continue
		}
		value, err := readAll(func(b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
		if errors.Is(err, unix.ENODATA) {
			continue // removed since
		}
		if err != nil {
			return nil, fmt.Errorf("reading the extended attribute %s: %w", name, err)
		}
		xattrs = append(xattrs, Xattr{name, value})
	}
	return xattrs, nil
}

// readAll calls read with a larger buffer until the answer fits.
func readAll(read func([]byte) (int, error)) ([]byte, error) {
	var small [512]byte // holds nearly every answer without an allocation
	n, err := read(small[:])
	if err == nil {
		return slices.Clone(small[:n]), nil
	}
	// linux/limits.h: XATTR_LIST_MAX and XATTR_SIZE_MAX are 65536.
	for size := 8 << 10; errors.Is(err, unix.ERANGE) && size <= 64<<10; size *= 2 {
		b := make([]byte, size)
		if n, err = read(b); err == nil {
			return b[:n], nil
		}
	}
	return nil, err
}
