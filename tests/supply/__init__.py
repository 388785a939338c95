"""What a release is made of: floors without known holes, a workflow that is pinned, a build that is the same twice."""
