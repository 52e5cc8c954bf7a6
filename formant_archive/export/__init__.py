"""What the archive hands to a lawyer or an auditor: a selection of conversations, checked on the way out.

    bag         the bag: `data/` with the objects byte for byte, its manifests, its checks (RFC 8493)
    cover       what the bag says of itself: of which archive, what was asked for, what came of it
    exhibit     one conversation: what was copied of it, and what is missing or altered
    chain       the archive's manifests from the first that names a conversation up to the head
    payload     a file of the bag: copied, hashed twice on the way
    table       data/index.csv
    page        index.html
    place       built under another name, and given its own when it is whole
    vcon        instead of a bag: a vCon for each conversation

A record or a payload that is missing or altered is left out and named; it stops nothing. A manifest that is not what
its successor names ends the export: then nothing would prove anything.

Phone numbers and words of a transcript are in `conversation.json`, and on the page that shows them; nowhere else.
"""
