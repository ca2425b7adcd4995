"$MCOMPRESS" --version
