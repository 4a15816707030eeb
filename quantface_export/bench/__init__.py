"""The bundle's speed and memory beside what a user would pick instead."""
