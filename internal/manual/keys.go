package manual

import "maps"

func init() { maps.Copy(Commands, keyPages) }

const keySeeAlso = "btrfs-backup(8), btrfs-backup-key(8), btrfs-backup-key-new(8), btrfs-backup-key-test(8), btrfs-backup-key-list(8), btrfs-backup-key-rewrap(8), age(1), minisign(1)"

var keyPages = map[string]Command{
	"key": {
		Sections: []Section{
			{Title: "PUBLIC KEYS", Text: `
/etc/btrfs-backup/recipients has a public key on each line: of age (age1...), or of SSH (ssh-ed25519, ssh-rsa). A comment, a
line that begins with #, names the key in the next line. There are two keys at the least, unless --one-recipient says that one is
enough. The file is refused if anybody but root and the user can change it: whoever adds a key reads later backups. It is never
taken from a store. Post-quantum keys (age1pq1..., of age-keygen -pq) are not mixed with others.`},
			{Title: "SECRET KEYS", Text: `
--identity FILE names a secret key: a file of age-keygen(1), the same encrypted with a passphrase (age -p), or a private key of
SSH, with a passphrase or without. A passphrase is asked for on a terminal. A file that other users can read is refused, except
on filesystems without modes, such as that of a USB stick. --identity - asks for a key to be typed, or reads it from standard input if that is no
terminal: upper or lower case, blanks and dashes do not matter, and a mistyped letter is noticed. Keys in the hardware
of a plugin (a YubiKey) cannot be used yet.`},
			{Title: "FILES", Items: [][2]string{
				{"/etc/btrfs-backup/recipients", "The public keys for which this machine encrypts."},
				{"/var/lib/btrfs-backup/signing.key", "The key with which this machine signs what it stores, so that what somebody else puts there is no backup. It reads nothing. It is made when it is needed."},
				{"/var/lib/btrfs-backup/signers", "Other keys whose signatures count on this machine: KEY COMMENT on a line."},
			}},
		},
		SeeAlso: keySeeAlso,
	},
	"key new": {
		Sections: []Section{
			{Title: "EXIT STATUS", Items: [][2]string{
				{"0", "The keys are written."},
				{"1", "No key was kept."},
				{"2", "The command line is wrong."},
				{"130", "Ended by Ctrl-C. No key was kept."},
			}},
		},
		SeeAlso: keySeeAlso,
	},
	"key test": {
		Sections: []Section{
			{Title: "EXIT STATUS", Items: [][2]string{
				{"0", "The secret key reads what is encrypted now, or what is in STORE."},
				{"1", "It does not, or cannot be read."},
				{"2", "The command line is wrong."},
			}},
		},
		SeeAlso: keySeeAlso,
	},
	"key list": {SeeAlso: keySeeAlso},
	"key rewrap": {
		Sections: []Section{
			{Title: "WHAT IT TAKES", Text: "As many bytes as the backups have are read, and as many are stored; --dry-run tells how many. While a backup is " +
				"copied, both copies take room. What each is built on stays the same. The store tells of the new keys from then on, and what machines " +
				"store is encrypted for the keys in their own /etc/btrfs-backup/recipients: change that first. A backup that is encrypted for exactly " +
				"these keys is passed over."},
			{Title: "EXIT STATUS", Items: [][2]string{
				{"0", "The new keys read all of it."},
				{"1", "Something is left, which is told."},
				{"2", "The command line is wrong."},
			}},
		},
		SeeAlso: keySeeAlso,
	},
}
