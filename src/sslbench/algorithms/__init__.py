"""The methods. To add one, write a final class in a file here and a yaml in ``conf/algorithm``."""
