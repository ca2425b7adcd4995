exec "$MCOMPRESS"
