"""The verbs before a bucket, as `dvc repro` runs them: import, split, validate, build; convert."""
