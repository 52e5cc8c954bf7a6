# The bucket, its key, and four roles. Who may do what is in policies/*.json and nowhere else: each is read by
# templatefile, and README.md there explains it statement by statement.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0, < 7.0"
    }
  }
}

provider "aws" {
  region = var.region
}

data "aws_caller_identity" "here" {}

data "aws_partition" "here" {}

locals {
  people = {
    auditor      = var.auditor_arn
    hold-officer = var.hold_officer_arn
    eraser       = var.eraser_arn
  }
  # Written out, not taken from the roles: a bucket policy must not wait for a role that waits for the bucket.
  role_arns = {
    for name in keys(local.people) :
    name => "arn:${data.aws_partition.here.partition}:iam::${data.aws_caller_identity.here.account_id}:role/${var.bucket}-${name}"
  }
  names = {
    archive_arn = "${aws_s3_bucket.archive.arn}/${var.prefix}"
    bucket_arn  = aws_s3_bucket.archive.arn
    key_arn     = aws_kms_key.archive.arn
    region      = var.region
  }
}

# The bucket

resource "aws_s3_bucket" "archive" {
  bucket              = var.bucket
  object_lock_enabled = true

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_versioning" "archive" {
  bucket = aws_s3_bucket.archive.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_object_lock_configuration" "archive" {
  bucket = aws_s3_bucket.archive.id

  rule {
    default_retention {
      mode = var.lock_mode
      days = var.retention_days
    }
  }

  depends_on = [aws_s3_bucket_versioning.archive]
}

resource "aws_s3_bucket_public_access_block" "archive" {
  bucket                  = aws_s3_bucket.archive.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "archive" {
  bucket = aws_s3_bucket.archive.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "archive" {
  bucket = aws_s3_bucket.archive.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.archive.arn
    }
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "archive" {
  bucket = aws_s3_bucket.archive.id

  # The writer makes none; what others leave half done is no object and under no lock. Nothing here ever expires: an
  # expiration plants delete markers, which verify calls damage.
  rule {
    id     = "abort-incomplete-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  depends_on = [aws_s3_bucket_versioning.archive]
}

resource "aws_s3_bucket_policy" "archive" {
  bucket = aws_s3_bucket.archive.id

  policy = templatefile("${path.module}/policies/bucket.json", merge(local.names, {
    eraser_arn         = local.role_arns["eraser"]
    hold_officer_arn   = local.role_arns["hold-officer"]
    retention_cap_days = var.retention_cap_days
  }))

  depends_on = [aws_s3_bucket_public_access_block.archive]
}

# The key: without it the archive cannot be read, by anybody, ever.

resource "aws_kms_key" "archive" {
  description             = "formant-archive in ${var.bucket}"
  enable_key_rotation     = true
  deletion_window_in_days = 30

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "archive" {
  name          = "alias/${var.bucket}"
  target_key_id = aws_kms_key.archive.key_id
}

# The roles

resource "aws_iam_role" "writer" {
  name = "${var.bucket}-writer"

  assume_role_policy = templatefile("${path.module}/policies/trust-service.json", {
    account = data.aws_caller_identity.here.account_id
    service = var.writer_service
  })
}

resource "aws_iam_role_policy" "writer" {
  name   = "archive"
  role   = aws_iam_role.writer.id
  policy = templatefile("${path.module}/policies/writer.json", local.names)
}

resource "aws_iam_role" "person" {
  for_each = local.people

  name               = "${var.bucket}-${each.key}"
  assume_role_policy = templatefile("${path.module}/policies/trust-person.json", { person_arn = each.value })
}

resource "aws_iam_role_policy" "person" {
  for_each = local.people

  name   = "archive"
  role   = aws_iam_role.person[each.key].id
  policy = templatefile("${path.module}/policies/${each.key}.json", local.names)
}
