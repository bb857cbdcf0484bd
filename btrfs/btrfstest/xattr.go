package btrfstest

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
	capability = "security.capability"
)

func (tr *tree) setxattr(name, attr string, value []byte) {
	tr.t.Helper()
	if err := unix.Lsetxattr(tr.path(name), attr, value, 0); err != nil {
		tr.t.Fatalf("setting %q of %q: %v", attr, name, err)
	}
}

// namedUserACL returns an ACL that gives perm to user 4321.
// linux/posix_acl_xattr.h: struct posix_acl_xattr_header, posix_acl_xattr_entry.
func namedUserACL(perm uint16) []byte {
	const version, none = 2, ^uint32(0)
	acl := binary.LittleEndian.AppendUint32(nil, version)
	for _, entry := range []struct {
		tag, perm uint16
		id        uint32
	}{
		{0x01, 6, none},    // ACL_USER_OBJ
		{0x02, perm, 4321}, // ACL_USER
		{0x04, 4, none},    // ACL_GROUP_OBJ
		{0x10, 7, none},    // ACL_MASK
		{0x20, 4, none},    // ACL_OTHER
	} {
		acl = binary.LittleEndian.AppendUint16(acl, entry.tag)
		acl = binary.LittleEndian.AppendUint16(acl, entry.perm)
		acl = binary.LittleEndian.AppendUint32(acl, entry.id)
	}
	return acl
}

// bindServiceCapability returns cap_net_bind_service=ep.
// linux/capability.h: struct vfs_cap_data, revision 2.
func bindServiceCapability() []byte {
	const revision2, effective = 0x02000000, 1
	words := []uint32{revision2 | effective, 1 << unix.CAP_NET_BIND_SERVICE, 0, 0, 0}
	var data []byte
	for _, word := range words {
		data = binary.LittleEndian.AppendUint32(data, word)
	}
	return data
}

// readXattrs returns the extended attributes of path, not of what it links to.
func readXattrs(path string) (map[string]string, error) {
	list, err := readSized(func(buf []byte) (int, error) { return unix.Llistxattr(path, buf) })
	if err != nil || len(list) == 0 {
		return nil, err
	}
	attrs := make(map[string]string)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		value, err := readSized(func(buf []byte) (int, error) { return unix.Lgetxattr(path, name, buf) })
		if err != nil {
			return nil, err
		}
		attrs[name] = string(value)
	}
	return attrs, nil
}

// readSized asks read for the size of its answer, then for the answer.
func readSized(read func([]byte) (int, error)) ([]byte, error) {
	size, err := read(nil)
	if err != nil || size == 0 {
		return nil, err
	}
	buf := make([]byte, size)
	n, err := read(buf)
	return buf[:max(n, 0)], err
}
