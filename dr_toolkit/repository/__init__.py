"""The stored format (docs/format.md): store, crypto, keyring, packs, catalog, snapshots, writer, reader."""
