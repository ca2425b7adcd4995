# The generated documents are what the program prints.
docs=$MCOMPRESS_MODELS/../docs
"$MCOMPRESS" passes --markdown | cmp - "$docs/passes.md"
"$MCOMPRESS" passes --manual | cmp - "$docs/manual.md"
"$MCOMPRESS" schema --markdown | cmp - "$docs/json.md"
