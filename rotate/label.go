package rotate

import (
	"strings"

	"logfs/ring/record"
)

// Suffixes of archives.
const (
	complete  = ".s"
	recovered = ".u"
)

// archiveName is the name of the archive with the given label and suffix.
func archiveName(label record.Stamp, suffix string) string {
	return string(record.AppendStamp(nil, label)) + suffix
}

// parseArchive takes the name of an archive apart. It accepts only what
// archiveName can have made, with the suffix of a compression or without, so
// whatever else is in a logdir is left alone.
func parseArchive(name string) (label record.Stamp, suffix string, ok bool) {
	if label, ok = record.ParseStamp([]byte(name)); !ok {
		return 0, "", false
	}
	suffix = name[record.StampLen:]
	plain := strings.TrimSuffix(suffix, compressionOf(name).suffix())
	return label, suffix, plain == complete || plain == recovered
}

// nextLabelLocked returns the label for current: not before its last line, and
// after every label in the directory, whatever the clock says.
func (d *Logdir) nextLabelLocked() record.Stamp {
	return max(d.opt.Now(), d.last, d.label+1)
}
