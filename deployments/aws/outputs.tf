output "archive_url" {
  description = "ARCHIVE_URL of the worker."
  value       = "s3://${aws_s3_bucket.archive.id}/${var.prefix}"
}

output "writer_role_arn" {
  description = "The role that the flows run as."
  value       = aws_iam_role.writer.arn
}

output "auditor_role_arn" {
  description = "The role to verify, list, show and export as."
  value       = aws_iam_role.person["auditor"].arn
}
