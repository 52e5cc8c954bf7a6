"""Makes the bucket that ARCHIVE_URL names, versioned and with Object Lock, unless it is there: for the laptop's S3."""

import os
from contextlib import suppress
from urllib.parse import urlsplit

import boto3

bucket = urlsplit(os.environ["ARCHIVE_URL"]).netloc
s3 = boto3.client("s3")
with suppress(s3.exceptions.BucketAlreadyOwnedByYou, s3.exceptions.BucketAlreadyExists):
    # Object Lock brings versions with it. No retention by default: what is on a laptop may be thrown away.
    s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
s3.get_waiter("bucket_exists").wait(Bucket=bucket)
