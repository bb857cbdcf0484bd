package takeover

import "regexp"

// btrbkOption is an option of btrbk.conf(5).
type btrbkOption struct {
	accept string // what each of its words must match
	in     string // the sections that it may stand in: global, volume, subvolume, target
	// says is what becomes of a value that is no key; "*" is any other. Values that are not here become keys.
	says map[string]verdict
}

const (
	everywhere   = "gvst"
	atSource     = "gvs"
	yesNo        = `yes|no`
	numberOrWord = `default|[0-9]+`
	sizeOrNo     = `no|[0-9]+[kmgKMG%]?`
	rateOrNo     = `no|[0-9]+[kmgtKMGT]?`
	absolute     = `/.*`
	absoluteOrNo = `no|/.*`
	compressors  = `no|gzip|pigz|bzip2|pbzip2|xz|lzo|lz4|zstd`
	backends     = `no|btrfs-progs|btrfs-progs-btrbk|btrfs-progs-sudo|btrfs-progs-doas`
	retentions   = `no|(\s*([0-9]+|\*)[hdwmyHDWMY])+`
)

var (
	asHere = idle("it is always so here")
	off    = idle("it is off")

	byItself    = map[string]verdict{"*": idle("this program finds it out by itself")}
	noArchive   = left(`there is no "btrbk archive" here: name the archive as a further destination`)
	noRaw       = map[string]verdict{"no": off, "*": left("there are no raw targets here; shell://COMMAND stores streams")}
	asRoot      = idle("btrfs-backup runs as root on this machine")
	noWrapper   = left("the programs of btrfs-progs-btrbk are not used; log in as root, or use btrfs-progs-sudo, which is ssh-sudo = true")
	noDoas      = left("there is no doas here; log in as root, or allow sudo and set ssh-sudo = true")
	noFailsafe  = left("btrbk itself keeps everything and sends nothing because of it: set keep-snapshots and keep-backups")
	noQuota     = map[string]verdict{"no": off, "*": left("quota groups of deleted subvolumes stay: btrfs qgroup clear-stale")}
	mayNotApply = left("refused: what cannot be received is an error here, since a backup made in spite of it may not be restorable")
	posix       = idle("scripts on other machines need no more than POSIX")
	leastData   = idle("a stream is compressed, if at all, at the speed of the line")
	compat      = map[string]verdict{"no": off, "busybox": posix, "*": mayNotApply}
	localOnly   = map[string]verdict{"no": off, "*": asRoot}
	remoteTools = map[string]verdict{"no": off, "btrfs-progs": asHere, "btrfs-progs-btrbk": noWrapper, "btrfs-progs-doas": noDoas}
)

// btrbkOptions are all options, those of older versions included.
var btrbkOptions = map[string]btrbkOption{
	"timestamp_format": {`short|long|long-iso`, atSource, nil},
	"snapshot_dir":     {`[^/].*|/.*`, atSource, nil},
	"snapshot_name":    {`[^/]+`, "s", nil},
	"snapshot_create": {`no|always|ondemand|onchange`, atSource, map[string]verdict{"always": asHere,
		"ondemand": left("a snapshot is taken although no destination can be reached, and the next run sends it")}},

	"incremental": {`yes|no|strict`, everywhere, map[string]verdict{"yes": asHere,
		"strict": left("where no parent is left, a complete copy is sent; --dry-run shows it beforehand")}},
	"incremental_prefs": {`(defaults|sro|srn|sao|san|aro|arn)(:[0-9]+)?`, everywhere, map[string]verdict{"defaults": asHere,
		"*": left("the parent is chosen by UUID, and clone sources are not used")}},
	"incremental_clones": {yesNo, everywhere, map[string]verdict{"no": asHere,
		"*": idle("clone sources are not used: with its usual preferences, btrbk hardly finds any")}},
	"incremental_resolve": {`mountpoint|directory|_all_accessible`, everywhere, map[string]verdict{"directory": asHere,
		"*": left("parents are looked for in the folder of the snapshots and in the destination")}},

	"preserve_day_of_week":  {`monday|tuesday|wednesday|thursday|friday|saturday|sunday`, everywhere, nil},
	"preserve_hour_of_day":  {`[0-9]|1[0-9]|2[0-3]`, everywhere, nil},
	"snapshot_preserve":     {retentions, atSource, nil},
	"snapshot_preserve_min": {`all|latest|[1-9][0-9]*[hdwmy]`, atSource, nil},
	"target_preserve":       {retentions, everywhere, nil},
	"target_preserve_min":   {`all|latest|no|[0-9]+[hdwmy]`, everywhere, nil},
	"archive_preserve":      {retentions, "g", map[string]verdict{"no": off, "*": noArchive}},
	"archive_preserve_min":  {`all|latest|no|[0-9]+[hdwmy]`, "g", map[string]verdict{"*": noArchive}},
	"archive_exclude":       {`.+`, "g", map[string]verdict{"*": noArchive}},
	"archive_exclude_older": {yesNo, everywhere, map[string]verdict{"no": off, "*": noArchive}},

	"ssh_identity":    {absoluteOrNo, everywhere, nil},
	"ssh_user":        {`no|[a-z_][a-z0-9_-]*`, everywhere, nil},
	"ssh_port":        {numberOrWord, everywhere, nil},
	"ssh_compression": {yesNo, everywhere, nil},
	"ssh_cipher_spec": {`default|[a-z0-9][a-z0-9@.-]+`, everywhere, nil},

	"stream_compress":         {compressors, everywhere, nil},
	"stream_compress_level":   {numberOrWord, everywhere, byItself},
	"stream_compress_long":    {numberOrWord, everywhere, byItself},
	"stream_compress_threads": {numberOrWord, everywhere, byItself},
	"stream_compress_adapt":   {yesNo, everywhere, map[string]verdict{"*": leastData}},
	"stream_buffer":           {sizeOrNo, everywhere, byItself},
	"stream_buffer_remote":    {sizeOrNo, everywhere, byItself},
	"rate_limit":              {rateOrNo, everywhere, nil},
	"rate_limit_remote":       {rateOrNo, everywhere, nil},

	"transaction_log": {absoluteOrNo, "g", nil},
	"transaction_syslog": {`no|user|mail|daemon|auth|lpr|news|cron|authpriv|local[0-7]`, "g",
		map[string]verdict{"no": off, "*": idle("under systemd, all that is logged is in the journal")}},
	"lockfile": {absoluteOrNo, "g", map[string]verdict{"*": idle("the folders themselves are locked; but do not let btrbk run at the same time")}},

	"backend": {backends, everywhere, remoteTools},

	"backend_remote":     {backends, everywhere, remoteTools},
	"backend_local":      {backends, everywhere, localOnly},
	"backend_local_user": {backends, everywhere, localOnly},

	"compat":        {`no|busybox|ignore_receive_errors`, everywhere, compat},
	"compat_local":  {`no|busybox|ignore_receive_errors`, everywhere, compat},
	"compat_remote": {`no|busybox|ignore_receive_errors`, everywhere, compat},

	"btrfs_commit_delete": {`yes|no|after|each`, everywhere, map[string]verdict{"no": off}},
	"send_protocol": {`no|1|2`, everywhere, map[string]verdict{
		"1": left("the newest protocol that both sides know is used"), "*": idle("the newest protocol that both sides know is used")}},
	"send_compressed_data": {yesNo, everywhere, map[string]verdict{
		"no": left("compressed data is sent as it is where both sides can"), "*": asHere}},
	"snapshot_qgroup_destroy": {yesNo, atSource, noQuota},
	"target_qgroup_destroy":   {yesNo, everywhere, noQuota},
	"archive_qgroup_destroy":  {yesNo, "g", noQuota},

	"group":  {`[a-zA-Z0-9_:-]+`, everywhere, nil},
	"noauto": {yesNo, everywhere, map[string]verdict{"no": off}},

	"safe_commands":             {yesNo, "g", byItself},
	"cache_dir":                 {absolute, "g", map[string]verdict{"*": idle(`there is no "btrbk extents" here`)}},
	"ignore_extent_data_inline": {yesNo, everywhere, map[string]verdict{"*": idle(`there is no "btrbk extents" here`)}},
	"warn_unknown_targets":      {yesNo, everywhere, map[string]verdict{"*": idle("btrfs-backup list shows whatever is in a folder")}},

	"raw_target_compress":         {compressors, everywhere, noRaw},
	"raw_target_compress_level":   {numberOrWord, everywhere, noRaw},
	"raw_target_compress_long":    {numberOrWord, everywhere, noRaw},
	"raw_target_compress_threads": {numberOrWord, everywhere, noRaw},
	"raw_target_split":            {`no|[0-9]+([kmgtpezyKMGTPEZY][bB]?)?`, everywhere, noRaw},
	"raw_target_block_size":       {`[0-9]+[kmgKMG]?`, everywhere, noRaw},
	"raw_target_encrypt":          {`no|gpg|openssl_enc`, everywhere, noRaw},
	"gpg_keyring":                 {absolute, everywhere, noRaw},
	"gpg_recipient":               {`[0-9a-zA-Z_@+.-]+`, everywhere, noRaw},
	"openssl_ciphername":          {`[0-9a-zA-Z-]+`, everywhere, noRaw},
	"openssl_iv_size":             {`no|[0-9]+`, everywhere, noRaw},
	"openssl_keyfile":             {absoluteOrNo, everywhere, noRaw},
	"kdf_backend":                 {absoluteOrNo, everywhere, noRaw},
	"kdf_keysize":                 {`[0-9]+`, everywhere, noRaw},
	"kdf_keygen":                  {`once|each`, everywhere, noRaw},

	"snapshot_preserve_daily":   {`all|[0-9]+`, atSource, map[string]verdict{"*": noFailsafe}},
	"snapshot_preserve_weekly":  {`all|[0-9]+`, atSource, map[string]verdict{"*": noFailsafe}},
	"snapshot_preserve_monthly": {`all|[0-9]+`, atSource, map[string]verdict{"*": noFailsafe}},
	"target_preserve_daily":     {`all|[0-9]+`, everywhere, map[string]verdict{"*": noFailsafe}},
	"target_preserve_weekly":    {`all|[0-9]+`, everywhere, map[string]verdict{"*": noFailsafe}},
	"target_preserve_monthly":   {`all|[0-9]+`, everywhere, map[string]verdict{"*": noFailsafe}},
	"resume_missing":            {yesNo, everywhere, map[string]verdict{"yes": asHere, "*": noFailsafe}},
	"snapshot_create_always": {yesNo, everywhere, map[string]verdict{"yes": asHere,
		"*": left("a snapshot is taken although no destination can be reached, and the next run sends it")}},
	"receive_log":        {`.+`, everywhere, map[string]verdict{"*": idle("what btrfs tells is in the log: btrfs-debug = true")}},
	"btrfs_progs_compat": {yesNo, everywhere, map[string]verdict{"*": idle("UUIDs are found without the messages of btrfs")}},
}

// btrbkWords are options whose value is several words.
var btrbkWords = regexp.MustCompile(`^(incremental_prefs|ssh_cipher_spec|gpg_recipient|group|compat(_local|_remote)?)$`)

var btrbkSeparator = regexp.MustCompile(`\s*[,\s]\s*`)

func (o btrbkOption) accepts(word string) bool {
	return regexp.MustCompile(`^(?:` + o.accept + `)$`).MatchString(word)
}
