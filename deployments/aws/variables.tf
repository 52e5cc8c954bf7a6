variable "region" {
  description = "Where the bucket is made."
  type        = string
}

variable "bucket" {
  description = "The bucket's name. It holds nothing but archives."
  type        = string
}

variable "prefix" {
  description = "The archive's folder in the bucket: ARCHIVE_URL is s3://<bucket>/<prefix>."
  type        = string
  default     = "calls"

  validation {
    condition     = can(regex("^[^/*?$]+(/[^/*?$]+)*$", var.prefix))
    error_message = "A folder such as calls or a/b: no slash at its ends, and none of * ? $."
  }
}

variable "lock_mode" {
  description = "GOVERNANCE: the eraser may end a retention early. COMPLIANCE: nobody may, not even the account's root."
  type        = string
  default     = "GOVERNANCE"

  validation {
    condition     = contains(["GOVERNANCE", "COMPLIANCE"], var.lock_mode)
    error_message = "GOVERNANCE or COMPLIANCE."
  }
}

variable "retention_days" {
  description = "How long every new object is kept at least. There is no default: your regulation says it."
  type        = number
}

variable "retention_cap_days" {
  description = "Nobody may ask for a longer retention than this: under COMPLIANCE a slip of the pen could not be undone."
  type        = number
  default     = 3653

  validation {
    condition     = var.retention_cap_days >= var.retention_days
    error_message = "The cap must not be below retention_days."
  }
}

variable "writer_service" {
  description = "What runs the flows: ecs-tasks.amazonaws.com, or pods.eks.amazonaws.com for EKS Pod Identity."
  type        = string
  default     = "ecs-tasks.amazonaws.com"
}

variable "auditor_arn" {
  description = "Who may become the auditor: an IAM user or role."
  type        = string
}

variable "hold_officer_arn" {
  description = "Who may become the hold officer."
  type        = string
}

variable "eraser_arn" {
  description = "Who may become the eraser: never who runs the pipeline."
  type        = string
}
