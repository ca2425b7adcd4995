# Manual pages: one per command, and readers have nothing to complain about.
"$MCOMPRESS" man -o man1
"$MCOMPRESS" man | cmp - man1/mcompress.1
"$MCOMPRESS" man quantize | cmp - man1/mcompress-quantize.1
"$MCOMPRESS" man fuse | cmp - man1/mcompress-optimize.1
grep -qx '.so man1/mcompress-optimize.1' man1/mcompress-fuse.1
commands=$("$MCOMPRESS" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\).*/\1/p')
for command in $commands; do
  page=man1/mcompress-$command.1
  [[ $(grep -c '^\.TH' "$page") == 1 ]] && grep -q '^\.SH SYNOPSIS' "$page"
  # Every flag of --help is in the page, with dashes that can be copied.
  for flag in $("$MCOMPRESS" "$command" --help | grep -oE '^  (-[a-z], *)?--[a-z0-9-]+' | grep -oE -e '--[a-z0-9-]+'); do
    grep -qF -e "\\fB${flag//-/\\-}\\fR" "$page" || { echo "$page lacks $flag"; exit 9; }
  done
done
# A line that begins with a dot is a request of the macros, or no line of ours begins so.
if grep -hE '^\.' man1/*.1 | grep -vqE '^\.(TH|ad|SH|SS|TP|B|BR|nf|fi|ft|br|so|\\")( |$|)'; then exit 9; fi
if command -v mandoc >/dev/null; then
  # The date is left out on purpose: the same program prints the same pages.
  for page in man1/*.1; do
    mandoc -T lint -W warning "$page" | grep -v -e 'missing date' -e '.so is fragile' >lint || true
    [[ ! -s lint ]] || { cat lint; exit 9; }
  done
  mandoc -T ascii man1/mcompress-quantize.1 | col -b >text 2>/dev/null || mandoc -T ascii man1/mcompress-quantize.1 >text
  grep -q -e '--calib' text
fi
if command -v groff >/dev/null; then
  for page in man1/*.1; do
    [[ $page == man1/mcompress-fuse.1 ]] && continue
    groff -man -ww -Tutf8 "$page" 2>warnings >text
    [[ ! -s warnings ]] || { echo "$page"; cat warnings; exit 9; }
  done
fi
status=0
"$MCOMPRESS" man quantise 2>message || status=$?
[[ $status == 1 ]] && grep -q "did you mean 'quantize'" message
