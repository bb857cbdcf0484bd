package takeover

import (
	"path"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/job"

	"github.com/kballard/go-shellquote"
)

const (
	// usualRsync are the options that rsync gets here, if no others are given, but for --one-file-system.
	usualRsync = "--archive --hard-links --acls --xattrs --numeric-ids --delete --delete-excluded"
	// impliedRsync are options that ask for no more than these do, or for messages.
	impliedRsync = "-a --archive -r --recursive -l --links -p --perms -t --times -g --group -o --owner -D --devices --specials -A --acls " +
		"-X --xattrs -H --hard-links --numeric-ids --del --delete --delete-before --delete-during --delete-delay --delete-after " +
		"--delete-excluded -v --verbose -q --quiet -h --human-readable -P --partial --progress --stats -S --sparse -i --itemize-changes"
	// valuedRsync have a value, in the same word or in the next one.
	valuedRsync = "--exclude --exclude-from --include --include-from -f --filter --bwlimit --info -@ --modify-window -B --block-size -e --rsh " +
		"--timeout --contimeout --compress-level --skip-compress -M --remote-option --backup-dir --suffix --link-dest --log-file --rsync-path " +
		"--max-size --min-size --max-delete -T --temp-dir --partial-dir --chmod --chown --usermap --groupmap --files-from --out-format"
)

// rsyncOption is an option of rsync: "-x", or "--exclude" with its value.
type rsyncOption struct {
	name, value string
	words       []string // as given
}

// rsyncOptions reads words as rsync does: short options may stand together.
func rsyncOptions(words []string) (all []rsyncOption) {
	valued := strings.Fields(valuedRsync)
	for i := 0; i < len(words); i++ {
		word := words[i]
		name, value, hasValue := strings.Cut(word, "=")
		o := rsyncOption{name, value, []string{word}}
		if strings.HasPrefix(word, "-") && !strings.HasPrefix(word, "--") {
			letters := []rune(word[1:])
			for n, letter := range letters {
				o = rsyncOption{name: "-" + string(letter), words: []string{"-" + string(letter)}}
				if rest := string(letters[n+1:]); slices.Contains(valued, o.name) && rest != "" {
					o.value, hasValue = rest, true
					o.words = []string{o.name + rest}
					break
				}
				if n+1 < len(letters) {
					all = append(all, o)
				}
			}
		}
		if slices.Contains(valued, o.name) && !hasValue && i+1 < len(words) {
			i++
			o.value = words[i]
			o.words = append(o.words, words[i])
		}
		all = append(all, o)
	}
	return all
}

// setCopy tells how and what is copied.
func (v *vhpi) setCopy(t *table, given map[string]pair) {
	options := given["rsync_options"]
	var include, exclude, excludeFrom, more []string
	oneFilesystem, rate := false, ""
	for _, o := range v.options(options) {
		switch {
		case slices.Contains(strings.Fields(impliedRsync), o.name):
		case o.name == "-x" || o.name == "--one-file-system":
			oneFilesystem = true
		case o.name == "--exclude":
			exclude = append(exclude, o.value)
		case o.name == "--exclude-from":
			excludeFrom = append(excludeFrom, o.value)
		case o.name == "--include" && len(exclude)+len(excludeFrom) == 0:
			include = append(include, o.value)
		case o.name == "--bwlimit":
			rate = rateOf(o.value)
		default:
			if why := refusal(o); why != "" {
				v.remark(origin{options.of.line, strings.Join(o.words, " ")}, left(why))
				continue
			}
			more = append(more, o.words...)
		}
	}
	if options.value != nil {
		t.entries = append(t.entries, entry{of: []origin{options.of},
			note: "the usual options of rsync are --archive --hard-links --acls --xattrs --delete and the like"})
	}
	switch {
	case len(more) > 0:
		words := strings.Fields(usualRsync)
		if oneFilesystem {
			words = append(words, "--one-file-system")
		}
		t.set("rsync-options", shellquote.Join(append(words, more...)...))
	case !oneFilesystem:
		t.note("as rsync without --one-file-system: also what is mounted in the source")
		t.set("multi-fs", true)
	}
	t.set("rate-limit", rate)
	v.setFilters(t, given, include, append(exclude, v.words(given["excludes"].value)...), excludeFrom)
}

// setFilters tells what is left out: a job's own patterns come before those of lists.
func (v *vhpi) setFilters(t *table, given map[string]pair, include, exclude, excludeFrom []string) {
	t.set("include", include)
	var of []origin
	if excludes := given["excludes"]; excludes.value != nil {
		of = append(of, excludes.of)
	}
	t.set("exclude", exclude, of...)
	t.set("exclude-from", excludeFrom)
	lists := given["exclude_lists"]
	names := v.words(lists.value)
	for _, name := range names {
		if _, ok := v.lists[name]; !ok {
			v.complain(lists.of.line, "add it to app_cfg, exclude_lib", "there is no list %s", quoted(name))
		}
		exclude = append(exclude, v.lists[name]...)
	}
	t.set("exclude-lists", names, lists.of)
	source := given["rsync_src"].text()
	if strings.HasSuffix(source, "/") {
		return
	}
	inner := "/" + path.Base(source) + "/"
	t.note("the slash that rsync_src lacks: %s is a directory in the backups of Very Hungry Pi, and is not in those made here",
		quoted(path.Base(source)))
	for _, pattern := range exclude {
		if strings.HasPrefix(pattern, inner) {
			v.remark(given["rsync_src"].of, left("patterns begin one directory lower here: "+pattern+" is /"+strings.TrimPrefix(pattern, inner)))
		}
	}
}

// options splits the options: at blanks in the first version, as a shell in the last one.
func (v *vhpi) options(p pair) []rsyncOption {
	if v.first {
		return rsyncOptions(strings.Fields(p.text()))
	}
	words, err := shellquote.Split(p.text())
	if err != nil {
		v.complain(p.of.line, "quote it as for a shell", "rsync_options %s: %w", quoted(p.text()), err)
	}
	return rsyncOptions(words)
}

// refusal tells why an option of rsync cannot be used here, or nothing.
func refusal(o rsyncOption) string {
	spec := job.Default()
	spec.Copy.Options = shellquote.Join(append([]string{"--archive"}, o.words...)...)
	for _, c := range spec.Check() {
		return strings.TrimSuffix(c.Err.Error()[strings.LastIndex(c.Err.Error(), `": `)+3:], ".") + "; " + hint.Of(c)
	}
	return ""
}

// rateOf writes a limit of rsync, which counts in KiB.
func rateOf(text string) string {
	if text == "0" {
		return ""
	}
	if strings.Trim(text, "0123456789.") == "" {
		text += "K"
	}
	return strings.ToUpper(text)
}
